"""Draw whole brains of age, sex and volumes, as NIfTI, and a small data set of them.

python examples/07_brains_by_age.py [OUTPUT_FOLDER]
"""

import csv
import subprocess
import sys
from pathlib import Path

import torch
from diffusers import DiffusionPipeline

import meddiffusers  # noqa: F401  lets diffusers find the pipeline
from meddiffusers.evaluation.figures.orthogonal_slices import PLANES, plane_slices
from meddiffusers.evaluation.figures.panels import panel

model = Path(__file__).parent / "checkpoints" / "ldm-brain-3d"
output = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/brains")
output.mkdir(parents=True, exist_ok=True)

pipe = DiffusionPipeline.from_pretrained(model)
print("It takes", pipe.unet.covariates)

# One noise, ventricles as they are at each age; what is not said, here the volume of the brain, is left to the model.
people = [{"age": 30 + 10 * n, "sex": "F", "ventricular_volume_ml": 16 + 5 * n} for n in range(6)]
generators = [torch.Generator().manual_seed(0) for _ in people]
brains = pipe(covariates=people, generator=generators, output_type="nifti").images
for person, brain in zip(people, brains, strict=True):
    brain.to_filename(output / f"age-{person['age']}.nii.gz")

cuts = [plane_slices(brain.get_fdata()[None])[0] for brain in brains]
rows = {name: [cut[number] for cut in cuts] for number, name in enumerate(PLANES)}
titles = {PLANES[0]: [f"{person['age']} years" for person in people]}
panel(rows, titles, ranges=dict.fromkeys(rows, (0.0, 1.0))).save(output / "panel.png")

# A data set of the people of a table. Stopped at any moment, the same command goes on.
table = output / "people.csv"
with table.open("w", newline="") as file:
    writer = csv.DictWriter(file, fieldnames=people[0])
    writer.writeheader()
    writer.writerows(people)
data = output / "dataset"
subprocess.run(
    [
        *("meddiffusers", "generate", str(model), "--output", str(data), "--num-samples", "6"),
        *("--covariates", str(table), "--as-rows"),
    ],
    check=True,
)
print(f"Volumes and panel.png are in {output}, the data set, which `datasets` loads, in {data}")
