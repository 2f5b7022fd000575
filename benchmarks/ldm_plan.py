"""Estimate time, disk space and cost of 100,000 volumes, by type and number of GPUs.

Measured: floating-point operations of a denoising step and of a decoding, bytes of a written sample, and the speed of
this machine. Assumed: the fraction of its peak that a GPU reaches, and the price of a GPU hour.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ldm_bundle import COVARIATES, UNET
from ldm_decode import BRAIN, LATENTS
from torch.utils.flop_counter import FlopCounterMode

from meddiffusers import ConditionedUNet, LatentDiffusionPipeline, MonaiAutoencoderKL
from meddiffusers.evaluation.results import Bar, hardware
from meddiffusers.generation.bulk import GenerationConfig, generate
from meddiffusers.generation.covariates import TableRows
from meddiffusers.hub.load import load
from meddiffusers.utils.atomic import write_text

REPOSITORY, PAGE = "ldm-brain-3d", Path("docs/bulk_generation.md")
VOLUMES, STEPS, MEASURED = 100_000, 50, 8
PERSON = {"age": 60.0, "sex": "F", "brain_volume_ml": 1220.0, "ventricular_volume_ml": 27.0}
GPUS = {"L4": (121, 0.8), "A100 80 GB": (312, 2.0), "H100 SXM": (989, 3.0)}  # dense bf16 TFLOP/s; assumed $ an hour
REACHED = 0.25  # assumed part of the peak
COUNTS = (1, 8, 64)
MODELS = ("shipped, 80 × 96 × 80", "Pinaya et al., 160 × 224 × 160")


def plan(checkpoints: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """No bar but that the metrics are there; writes the page."""
    pipeline: Any = load(checkpoints / REPOSITORY)
    pipeline.set_progress_bar_config(disable=True)
    seconds, megabytes = _written(pipeline, seed)
    size = tuple(pipeline.unet.config["sample_size"])
    small = _teraflops(
        ConditionedUNet.from_config(pipeline.unet.config), MonaiAutoencoderKL.from_config(pipeline.vae.config), size
    )
    network = {("channels" if name == "num_channels" else name): value for name, value in UNET.items()}
    kept = ("spatial_dims", "in_channels", "out_channels", "with_conditioning", "cross_attention_dim")
    with torch.device("meta"):
        unet = ConditionedUNet(
            latent_channels=LATENTS[1],
            sample_size=LATENTS[2:],
            covariates=COVARIATES,
            network={name: value for name, value in network.items() if name not in kept},
        )
        vae = MonaiAutoencoderKL(**BRAIN)
    large = _teraflops(unet, vae, LATENTS[2:])
    voxels = [torch.tensor(each).prod().item() * 8**3 for each in (size, LATENTS[2:])]
    works = dict(zip(MODELS, (small, large), strict=True))
    disk = dict(zip(MODELS, (megabytes, megabytes * voxels[1] / voxels[0]), strict=True))
    table = [row for model in MODELS for row in _rows(model, works[model])]
    facts = {
        "teraflop a volume": works,
        "terabytes of 100,000": {model: each * VOLUMES / 1e6 for model, each in disk.items()},
        "here": {"seconds a volume": seconds, "GFLOP/s reached": 1000 * small / seconds},
        "table": table,
    }
    write_text(PAGE, _page(facts))
    return [Bar("plan: teraflop of a volume of the published size", large, ">=", small)], {"n": MEASURED, **facts}


def _written(pipeline: LatentDiffusionPipeline, seed: int) -> tuple[float, float]:
    """Seconds and megabytes of a volume of a data set made here."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        config = GenerationConfig(REPOSITORY, MEASURED, seed, MEASURED, 4, {"num_inference_steps": STEPS})
        began = time.perf_counter()
        generate(pipeline, config, folder, TableRows([PERSON]), None)
        seconds = (time.perf_counter() - began) / MEASURED
        return seconds, sum(path.stat().st_size for path in folder.rglob("*.parquet")) / 1e6 / MEASURED


def _teraflops(unet: Any, vae: Any, size: Sequence[int]) -> float:
    """10¹² floating-point operations of a volume: `STEPS` steps and a decoding, counted without computing anything."""
    unet, vae = unet.to("meta").eval(), vae.to("meta").eval()
    vae.register_to_config(slab_voxels=None)
    z = torch.empty(1, unet.config["latent_channels"], *size, device="meta")
    covariates = torch.empty(1, len(unet.covariates), device="meta")
    counts = []
    for call in (lambda: unet(z, 1, covariates=covariates), lambda: vae.decode(z)):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            call()
        counts.append(counter.get_total_flops())
    return (STEPS * counts[0] + counts[1]) / 1e12


def _rows(model: str, work: float) -> list[dict[str, Any]]:
    rows = []
    for name, (peak, price) in GPUS.items():
        hours = work * VOLUMES / (peak * REACHED) / 3600
        for count in COUNTS:
            rows.append({"model": model, "GPU": name, "GPUs": count, "hours": hours / count, "$": hours * price})
    return rows


def _page(facts: dict[str, Any]) -> str:
    works, disk, here = facts["teraflop a volume"], facts["terabytes of 100,000"], facts["here"]
    lines = [
        "# Estimated cost of a data set of 100,000 volumes",
        "",
        "Written by `benchmarks/ldm.py --only plan`. Floating-point operations of 50 denoising steps and the",
        "decoding are counted, as are the bytes of a stored sample. GPUs are assumed to reach a quarter of their",
        "dense bf16 peak, at the prices in the benchmark; this has not been measured on a GPU. A model as small",
        "as the shipped one reaches less, because reading and writing dominate. More GPUs take less time at the",
        "same cost, since samples are independent: `accelerate launch -m meddiffusers.cli generate REPO",
        "--num-samples 100000 …` splits them.",
        "",
        *(
            f"- {model}: {works[model]:.3g} teraflop, {10 * disk[model]:.3g} MB a volume, {disk[model]:.3g} TB in total"
            for model in works
        ),
        f"- a volume of the shipped model takes {here['seconds a volume']:.2f} seconds on {hardware()}",
        "",
        "| model | GPU | GPUs | hours | $ |",
        "|---|---|---|---|---|",
        *(
            f"| {row['model']} | {row['GPU']} | {row['GPUs']} | {row['hours']:.3g} | {row['$']:.3g} |"
            for row in facts["table"]
        ),
    ]
    return "\n".join(lines) + "\n"
