"""Tiny repositories to publish: a model's first version, a second one made by editing its file, a stock pipeline."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import PIL.Image
import torch
from diffusers import DDPMPipeline, UNet2DModel
from helpers.damped_ddim_scheduler import DampedDDIMScheduler
from helpers.hub_evidence import LATENTS, fingerprint

from meddiffusers import AttributeVAE, AttributeVAEPipeline
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.results import Metric
from meddiffusers.hub.card import Facts

FIRST, SECOND = "meddiffusers_attribute_vae_v1", "meddiffusers_attribute_vae_v2"
PIPELINE = "meddiffusers_attribute_vae_pipeline_v1"
SAVING = "meddiffusers_saving_v1"  # published beside every pipeline
CHECKS = "meddiffusers_checks_v1"  # and beside that of attribute VAEs

FACTS = Facts(
    name="Tiny digits",
    repo_id="tester/tiny",
    pipeline_class="AttributeVAEPipeline",
    pipeline_stem=PIPELINE,
    pipeline_tag="unconditional-image-generation",
    licence="apache-2.0",
    summary="A VAE of images of eight by eight pixels. None of them is real.",
    example="images = pipe(batch_size=4).images",
    intended_use="To test publishing.",
    training_data="None was used.",
    training_data_licence="CC0.",
    training_procedure="The weights are random.",
    training_command="python nothing.py --x None",
    evaluation_command="meddiffusers evaluate attributes tester/tiny",
    limitations="It has learned nothing.",
    citation="```bibtex\n# Evaluation\n@misc{none}\n```",
    tags=("vae",),
    datasets=("ylecun/mnist",),
)
REPORT = Report(
    metrics=[
        Metric("scc", "SCC", "", 0.951234, "digits, held out", 1000, 0.94, 0.96, "3 runs", "posterior means"),
        Metric.single("edit_mae_slant", "Edit error (MAE), slant [rad]", 1.0625, "digits, held out", 1000, type="mae"),
    ],
    run={"seed": 7, "seeds": [7, 8, 9], "hardware": "Some CPU, 2 cores", "training_minutes": 4.56},
    figures={"Reconstructions": PIL.Image.new("L", (4, 4)), "Leakage": PIL.Image.new("L", (4, 4), 255)},
)


def tiny_pipeline(seed: int = 0) -> AttributeVAEPipeline:
    """Images of 8×8 pixels, three latent dimensions, two attributes, random weights from the seed."""
    torch.manual_seed(seed)
    calibration = {"slant": {"unit": "rad", "values": [-0.5, 0.5], "latents": [-2.0, 2.0]}}
    vae = AttributeVAE(
        sample_size=8,
        block_out_channels=(4,),
        hidden_dim=8,
        latent_dim=3,
        attributes=["slant", "width"],
        calibration=calibration,
    )
    return AttributeVAEPipeline(vae)


def stock_pipeline(scheduler: Any = None) -> Any:
    """diffusers' DDPMPipeline around diffusers' U-Net, by default with a scheduler that obeys the publishing rules."""
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(8,),
        norm_num_groups=4,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
    )
    return DDPMPipeline(unet, scheduler or DampedDDIMScheduler(damping=0.25))


def write_second_version(folder: Path, seed: int) -> Path:
    """A repository whose model's file is a second version, under a name of its own: it decodes negatives."""
    tiny_pipeline(seed).save_pretrained(folder)
    source = (folder / "vae" / f"{FIRST}.py").read_text(encoding="utf-8")
    edited = source.replace(FIRST, SECOND).replace("parameters = self.decoder(z)\n", "parameters = -self.decoder(z)\n")
    (folder / "vae" / f"{SECOND}.py").write_text(edited, encoding="utf-8")
    (folder / "vae" / f"{FIRST}.py").unlink()
    index = folder / "model_index.json"
    index.write_text(index.read_text(encoding="utf-8").replace(FIRST, SECOND), encoding="utf-8")
    return folder


def decoded_negatives(seed: int) -> str:
    """Fingerprint of what the second version decodes from `LATENTS`, without its file."""
    vae = tiny_pipeline(seed).vae
    with torch.no_grad():
        return fingerprint(vae.expectation(-vae.decoder(LATENTS)).permute(0, 2, 3, 1).numpy())


def run_script(script: Path, repositories: Path, work: Path) -> dict[str, Any]:
    """What a script, run in a process of its own, has written into `work`/evidence.json."""
    work.mkdir()
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    command: list[str | Path] = [sys.executable, script, repositories, work]
    result = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": path}, cwd=work, capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise RuntimeError(f"{script.name} failed:\n{result.stderr}")
    return json.loads((work / "evidence.json").read_text(encoding="utf-8"))


def copy(source: Path, target: Path) -> Path:
    """A copy of a folder that a test may modify."""
    return Path(shutil.copytree(source, target))
