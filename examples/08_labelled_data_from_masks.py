"""Generate labelled images: slices in four modalities from label maps of tumours, saved as NIfTI pairs.

python examples/08_labelled_data_from_masks.py [OUTPUT_FOLDER]

The label maps are a phantom's tumour, mirrored and shifted; any map with the model's labels works.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline

import meddiffusers  # noqa: F401  lets diffusers find the pipeline
from meddiffusers.data.phantoms.brain.phantom import BrainPhantom
from meddiffusers.data.preprocessing.slices import slices
from meddiffusers.datasets.labelled_slices import label_ids
from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.generation.label_maps import label_image, sample_shape

output = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/labelled")
output.mkdir(parents=True, exist_ok=True)

pipe = DiffusionPipeline.from_pretrained(Path(__file__).parent / "checkpoints" / "ldm-brain-mask-2d")
print("Labels:", pipe.unet.mask_labels, "modalities:", pipe.modalities)

phantom = BrainPhantom(7, lesion="tumour", difficulty=0.2)
subject = phantom.slice(float(np.median(phantom.lesion_heights())), sample_shape(pipe)[0], ("t1",))
tumour = label_ids(slices(subject.lesions).array[0, 0], list(pipe.unet.mask_labels.values()))  # BraTS ids are 1, 2, 4
masks = np.stack([tumour, tumour[:, ::-1], np.roll(tumour, 8, axis=0), np.zeros_like(tumour)])

generators = [torch.Generator().manual_seed(i) for i in range(len(masks))]
images = pipe(mask=masks, generator=generators, output_type="nifti").images
for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
    image.to_filename(output / f"image-{i}.nii.gz")
    label_image(mask, image.affine).to_filename(output / f"mask-{i}.nii.gz")

rows = {"mask": masks / max(pipe.unet.mask_labels)}
for i, name in enumerate(pipe.modalities):
    rows[name] = np.stack([image.get_fdata()[:, :, 0, i].T for image in images])
panel(rows, ranges=dict.fromkeys(rows, (0.0, 1.0))).save(output / "panel.png")
print(f"Saved pairs of images and masks, and panel.png, in {output}")
