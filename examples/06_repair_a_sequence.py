"""Correct the segmentation of a cardiac cycle: label maps, attribute curves and an animation.

python examples/06_repair_a_sequence.py [LABEL_MAPS] [OUTPUT_FOLDER]

Without a file, the script corrects a phantom with errors in a fifth of its frames. A file (NIfTI or MetaImage, as in
CAMUS) contains label maps with time as the third axis: 1 LV, 2 myocardium, 3 left atrium.
"""

import sys
from pathlib import Path

import numpy as np
from diffusers import DiffusionPipeline

from meddiffusers import AttributeVAEPipeline
from meddiffusers.data.io import read
from meddiffusers.data.phantoms.cardiac import CardiacPhantom, corrupt_sequence
from meddiffusers.datasets.cardiac_volumes import ed_es_frames
from meddiffusers.evaluation.cardiac.figures import attribute_curves, frames_panel, save_film, with_heading
from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.pipelines.meddiffusers_cardiac_attributes_v1 import area_length_volumes
from meddiffusers.pipelines.meddiffusers_cardiac_labels_v1 import scan_to_frames

HERE = Path(__file__).parent
output = Path(sys.argv[2] if len(sys.argv) > 2 else "runs/repaired")
output.mkdir(parents=True, exist_ok=True)

pipe = DiffusionPipeline.from_pretrained(HERE / "checkpoints" / "ar-vae-cardiac")
if len(sys.argv) > 1:
    frames = scan_to_frames(read(sys.argv[1]))
    result = pipe(sys.argv[1])
    repaired = scan_to_frames(result.labels)
else:
    phantom = CardiacPhantom(300_007)
    frames, errors = corrupt_sequence(phantom.labels(phantom.phases(25)), 1.25, seed=1, rate=0.2)
    print("injected errors:", *(f"{error.kind} in frame {error.frame}" for error in errors), sep="\n  ")
    result = pipe(frames, 1.25, cyclic=True)
    repaired = result.labels

print("regenerated frames:", *result.regenerated.nonzero()[0])
print("smoothed frames:", *result.smoothed.nonzero()[0])
print("cleaned frames:", *result.cleaned.nonzero()[0])
print(f"inconsistent frames: {result.before.inconsistent.sum()} → {result.after.inconsistent.sum()}")
print(f"ejection fraction: {result.before.ejection_fraction:.3f} → {result.after.ejection_fraction:.3f}")
rows = {"as segmented": frames, "repaired": repaired}
with_heading(frames_panel(rows, result.regenerated), result).save(output / "frames.png")
attributes = {"as segmented": result.before.attributes, "repaired": result.after.attributes}
attribute_curves(attributes).save(output / "curves.png")
save_film(rows, output / "film.gif")

# The same VAE samples shapes, interpolates from end diastole to end systole, and changes the area of the LV.
vae = AttributeVAEPipeline.from_pipe(pipe)
crops = pipe.crop_lv_region(repaired)  # LV and myocardium in the region of interest that the VAE encodes
ed, es = ed_es_frames(area_length_volumes(result.after.attributes))
areas = pipe.vae.calibration_of("lv_area")["values"]  # mm², the calibrated range
shapes = {
    "sampled": vae.sample(6, output_type="np").images,
    "ED to ES": vae.interpolate(crops[ed], crops[es], 6, output_type="np").images,
    "LV area": vae.edit(crops[[ed] * 6], {"lv_area": np.linspace(areas[0], areas[-1], 6)}, output_type="np").images,
}
panel(shapes).save(output / "shapes.png")
print(f"Figures and an animation are in {output}")
