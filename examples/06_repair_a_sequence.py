"""Repair the segmentation of a beating heart: label maps, curves and a film.

python examples/06_repair_a_sequence.py [LABEL_MAPS] [OUTPUT_FOLDER]

Without a file, a phantom's beat with errors in a fifth of its frames is repaired. A file (NIfTI or MetaImage, as CAMUS
has them) holds label maps with the frames as third axis: 1 cavity of the left ventricle, 2 its wall, 3 left atrium.
"""

import sys
from pathlib import Path

import numpy as np
from diffusers import DiffusionPipeline

from meddiffusers import AttributeVAEPipeline
from meddiffusers.data.io import read
from meddiffusers.data.phantoms.cardiac import CardiacPhantom, corrupted
from meddiffusers.evaluation.cardiac.figures import curves, film, frames_panel
from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.pipelines.meddiffusers_heart_scans_v1 import frames_of

HERE = Path(__file__).parent
output = Path(sys.argv[2] if len(sys.argv) > 2 else "runs/repaired")
output.mkdir(parents=True, exist_ok=True)

pipe = DiffusionPipeline.from_pretrained(HERE / "checkpoints" / "ar-vae-cardiac")
if len(sys.argv) > 1:
    frames = frames_of(read(sys.argv[1]))
    result = pipe(sys.argv[1])
    repaired = frames_of(result.labels)
else:
    phantom = CardiacPhantom(300_007)
    frames, errors = corrupted(phantom.labels(phantom.phases(25)), 1.25, seed=1, rate=0.2)
    print("put in:", *(f"{error.kind} in frame {error.frame}" for error in errors), sep="\n  ")
    result = pipe(frames, 1.25, cyclic=True)
    repaired = result.labels

print("drawn anew:", *result.redrawn.nonzero()[0], "\ntidied:", *result.tidied.nonzero()[0])
print(f"inconsistent frames: {result.before.inconsistent.sum()} → {result.after.inconsistent.sum()}")
print(f"ejection fraction: {result.before.ejection_fraction:.3f} → {result.after.ejection_fraction:.3f}")
rows = {"as segmented": frames, "repaired": repaired}
frames_panel(rows, result.redrawn).save(output / "frames.png")
curves({"as segmented": result.before.attributes, "repaired": result.after.attributes}).save(output / "curves.png")
film(rows, output / "film.gif")

# Shapes, by the same network: a heart whose cavity is 20 % larger, and the way from end diastole to end systole.
vae = AttributeVAEPipeline.from_pipe(pipe)
hearts = pipe.seen(repaired)  # the first two labels, in the square that the network sees
end_diastole, end_systole = (int(of(result.after.attributes[:, 0])) for of in (np.nanargmax, np.nanargmin))
area = vae.read_attributes(hearts[end_diastole])["lv_area"][0]
shapes = {
    "sampled": vae.sample(6, output_type="np").images,
    "ED to ES": vae.interpolate(hearts[end_diastole], hearts[end_systole], 6, output_type="np").images,
    "larger": vae.edit(
        hearts[[end_diastole] * 6], {"lv_area": area * np.linspace(0.8, 1.2, 6)}, output_type="np"
    ).images,
}
panel(shapes).save(output / "shapes.png")
print(f"Images and a film are in {output}")
