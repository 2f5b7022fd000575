"""Generate brain volumes from age, sex and ventricular volume, then a small data set.

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
print("Covariates and their ranges:", pipe.unet.covariates)

# The same noise for all ages. Covariates that are not given, here the brain volume, are left to the model.
subjects = [{"age": 30 + 10 * n, "sex": "F", "ventricular_volume_ml": 16 + 5 * n} for n in range(6)]
generators = [torch.Generator().manual_seed(0) for _ in subjects]
brains = pipe(covariates=subjects, generator=generators, output_type="nifti").images
for subject, brain in zip(subjects, brains, strict=True):
    brain.to_filename(output / f"age-{subject['age']}.nii.gz")

cuts = [plane_slices(brain.get_fdata()[None])[0] for brain in brains]
rows = {name: [cut[i] for cut in cuts] for i, name in enumerate(PLANES)}
titles = {PLANES[0]: [f"{subject['age']} years" for subject in subjects]}
panel(rows, titles, ranges=dict.fromkeys(rows, (0.0, 1.0))).save(output / "panel.png")

# A data set of the subjects in a table. The same command resumes an interrupted run.
table = output / "subjects.csv"
with table.open("w", newline="") as file:
    writer = csv.DictWriter(file, fieldnames=subjects[0])
    writer.writeheader()
    writer.writerows(subjects)
data = output / "dataset"
subprocess.run(
    [
        *(
            sys.executable,
            "-m",
            "meddiffusers.cli",
            "generate",
            str(model),
            "--output",
            str(data),
            "--num-samples",
            "6",
        ),
        *("--covariates", str(table), "--as-rows"),
    ],
    check=True,
)
print(f"Saved volumes and panel.png in {output}, and a data set for `datasets.load_dataset` in {data}")
