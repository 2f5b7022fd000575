"""Segment a tumour: mask, probability and uncertainty maps in the voxel grid of the scan.

python examples/02_segment_a_scan.py [SUBJECT_FOLDER] [OUTPUT_FOLDER]

SUBJECT_FOLDER holds one file for each modality, with t1, t1ce, t2 or flair in its name; modalities may be missing.
Without it, the example segments a phantom.
"""

import sys
from pathlib import Path

import torch
from diffusers import DiffusionPipeline

import meddiffusers  # noqa: F401  lets diffusers find the pipeline
from meddiffusers.data.io import write
from meddiffusers.data.io.png_panel import write_panel
from meddiffusers.data.phantoms.brain.phantom import BrainPhantom
from meddiffusers.data.preprocessing.subject import read_subject

HERE = Path(__file__).parent
output = Path(sys.argv[2] if len(sys.argv) > 2 else "runs/segmented")

pipe = DiffusionPipeline.from_pretrained(HERE / "checkpoints" / "seg-ddpm-brain")
source = sys.argv[1] if len(sys.argv) > 1 else BrainPhantom(7, lesion="tumour", difficulty=0.5).volume((1.5, 1.5, 4.0))
scan = read_subject(source, pipe.modalities)

result = pipe(scan, num_inference_steps=10, ensemble_size=5, generator=torch.Generator().manual_seed(0))

output.mkdir(parents=True, exist_ok=True)
for name, map_ in {"mask": result.mask, "probability": result.probability, **result.uncertainty}.items():
    write(map_, output / f"{name}.nii.gz")
write_panel(scan, output / "panel.png", labels=result.mask)
for label, name in list(pipe.id2label.items())[1:]:
    print(f"{name}: {(result.mask.array == label).sum() * scan.voxel_volume / 1000:.1f} ml")
print(f"Saved mask, maps and panel.png in {output}")
