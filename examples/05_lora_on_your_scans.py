"""Fine-tune the text-to-MR model on your own scans: a LoRA adapter, in minutes, from a folder and a table.

python examples/05_lora_on_your_scans.py [FOLDER TABLE.csv] [OUTPUT_FOLDER]

The table has a row for each scan with file_name, subject, modality and, where known, sex, age and labels_file_name (a
label map with FreeSurfer's regions). Without a folder, the example generates twenty
phantom scans of a low-field scanner.
"""

import subprocess
import sys
from pathlib import Path

import torch
from diffusers import DiffusionPipeline

import meddiffusers  # noqa: F401  lets diffusers find the pipeline
from meddiffusers.evaluation.figures.panels import panel

HERE = Path(__file__).parent
base = HERE / "checkpoints" / "text-to-mr-brain"
output = Path(sys.argv[3] if len(sys.argv) > 3 else "runs/lora-example").resolve()
folder, table = (
    (Path(path).resolve() for path in sys.argv[1:3])
    if len(sys.argv) > 2
    else (output / "scans", output / "scans" / "scans.csv")
)

command = [sys.executable, "-m", "meddiffusers.cli"]  # the command `meddiffusers` of this environment
if not folder.exists():
    subprocess.run([*command, "data", "phantom", str(folder), "--layout", "low-field", "--n", "20"], check=True)
train = [*command, "train", "text_to_mr", "--config", "text_to_mr_lora"]
data = ["--dataset_name", str(folder), "--table", str(table), "--labels_column", "labels"]
subprocess.run(
    [*train, *data, "--pretrained_model_name_or_path", str(base), "--output_dir", str(output / "adapter")], check=True
)

pipe = DiffusionPipeline.from_pretrained(base)
prompt = "Axial T1-weighted image of the brain of a woman aged 63, slice 85 from the base of the skull."


def generated_images() -> list:
    generators = [torch.Generator().manual_seed(seed) for seed in range(4)]
    images = pipe(prompt, num_images_per_prompt=4, generator=generators, output_type="np").images
    return list(images[..., 0])


rows = {"base": generated_images()}
pipe.load_lora_weights(output / "adapter", adapter_name="mine")
rows["adapter"] = generated_images()
pipe.set_adapters("mine", 0.5)
rows["half of the adapter"] = generated_images()
panel(rows, ranges=dict.fromkeys(rows, (0.0, 1.0))).save(output / "panel.png")
print(f"The adapter and panel.png are in {output}")
