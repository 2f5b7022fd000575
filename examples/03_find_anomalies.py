"""Detect anomalies: healthy counterfactual, anomaly map and mask in the voxel grid of the scan.

python examples/03_find_anomalies.py [SUBJECT_FOLDER] [OUTPUT_FOLDER]

SUBJECT_FOLDER holds one file for each modality, with t1, t1ce, t2 or flair in its name. Without it, the example uses a
phantom with a tumour.
"""

import sys
from pathlib import Path

from diffusers import DiffusionPipeline

import meddiffusers  # noqa: F401  lets diffusers find the pipeline
from meddiffusers.data.io import write
from meddiffusers.data.io.png_panel import write_panel
from meddiffusers.data.phantoms.brain.phantom import BrainPhantom
from meddiffusers.data.preprocessing.subject import read_subject

HERE = Path(__file__).parent
output = Path(sys.argv[2] if len(sys.argv) > 2 else "runs/anomalies")

pipe = DiffusionPipeline.from_pretrained(HERE / "checkpoints" / "anomaly-ddim-brain")
source = sys.argv[1] if len(sys.argv) > 1 else BrainPhantom(7, lesion="tumour", difficulty=0.5).volume((1.5, 1.5, 4.0))
scan = read_subject(source, pipe.modalities)

result = pipe(scan, num_inference_steps=20)

output.mkdir(parents=True, exist_ok=True)
for name, map_ in {"counterfactual": result.counterfactual, "anomaly": result.anomaly_map, "mask": result.mask}.items():
    write(map_, output / f"{name}.nii.gz")
write_panel(scan, output / "panel.png", labels=result.mask)
print(f"Anomalous volume: {result.mask.array.sum() * scan.voxel_volume / 1000:.1f} ml, score {result.score.max():.3f}")
print(f"Saved counterfactual, anomaly map, mask and panel.png in {output}")
