"""Generate MR slices from text prompts, and change an image by a prompt.

python examples/04_text_to_mr.py [OUTPUT_FOLDER]
"""

import sys
from pathlib import Path

import torch
from diffusers import DiffusionPipeline, DPMSolverMultistepScheduler

import meddiffusers  # noqa: F401  lets diffusers find the pipeline
from meddiffusers.data.prompts import SliceFacts, write_prompt

HERE = Path(__file__).parent
output = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/text-to-mr")

pipe = DiffusionPipeline.from_pretrained(HERE / "checkpoints" / "text-to-mr-brain")
pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)

volumes = {2: 6200, 41: 6100, 3: 5200, 42: 5300, 4: 620, 43: 600, 10: 800, 49: 790}  # mm³ by FreeSurfer label id
prompt = write_prompt(SliceFacts("t1", "F", 63, number=85, voxel=(2.167, 2.167, 1.0), volumes=volumes))
print(prompt)

t1 = pipe(prompt, num_inference_steps=20, generator=torch.Generator().manual_seed(0)).images[0]
t2 = pipe(prompt.replace("T1", "T2"), num_inference_steps=20, generator=torch.Generator().manual_seed(0)).images[0]
older = pipe(prompt.replace("63", "80"), image=t1, strength=0.6, output_type="nifti").images[0]

output.mkdir(parents=True, exist_ok=True)
t1.save(output / "t1.png")  # 16 bits
t2.save(output / "t2.png")
older.to_filename(output / "older.nii.gz")
print(f"Saved t1.png, t2.png and older.nii.gz in {output}")
