"""The shipped model of volumes on the covariates of held-out phantoms, against its autoencoder with random latents.

The model's metrics are those of its card, which `meddiffusers evaluate ldm` measured; random latents are decoded here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from meddiffusers.cli.latent_diffusion import volumes_like
from meddiffusers.datasets.rows import images_of
from meddiffusers.datasets.volume_config import load_volume_data
from meddiffusers.evaluation.generation.run import covariates_of
from meddiffusers.evaluation.generation.volumes import evaluate_volumes
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.results import Bar
from meddiffusers.hub.load import load
from meddiffusers.hub.training_config import recorded_data
from meddiffusers.pipelines.meddiffusers_latents_v1 import normalize_latents
from meddiffusers.training.tasks.latent_diffusion.cache import cached_latents

REPOSITORY, FOLDER = "ldm-brain-3d", Path("benchmarks/results/ldm_random_latents")
LEFT_RIGHT, BATCH = 2, 4


def volumes(checkpoints: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """The bars of covariates and fidelity; the baseline's report is saved to a folder beside the results."""
    report = Report.read(checkpoints / REPOSITORY)
    baseline = _of_random_latents(checkpoints, report.metrics[0].n, seed)
    baseline.save(FOLDER)
    value = report.value
    halves = report.metric("kid_held_out")
    allowed = 2 * max(halves.value, 0) + halves.high - halves.value
    apart = [abs(each.value("ms_ssim_generated") - value("ms_ssim_held_out")) for each in (report, baseline)]
    bars = [
        Bar("volumes: r of target and measured ventricles", value("ventricular_volume_ml_r"), ">=", 0.9),
        Bar("volumes: error of the ventricles, ml", value("ventricular_volume_ml_mae"), "<=", 5),
        Bar("volumes: r of target and measured brain volume", value("brain_volume_ml_r"), ">=", 0.85),
        Bar("volumes: r of target age and age estimated from regions", value("age_r"), ">=", 0.7),
        Bar("volumes: KID; twice that of held-out halves, and its interval", value("kid"), "<=", allowed),
        Bar(
            "volumes: Fréchet distance over that of random latents",
            value("frechet_distance") / baseline.value("frechet_distance"),
            "<=",
            1,
        ),
        Bar("volumes: MS-SSIM's distance from real pairs', over that of random latents", apart[0] / apart[1], "<=", 1),
    ]
    metrics = {
        name: {metric.key: [metric.value, metric.low, metric.high] for metric in of.metrics}
        for name, of in (("generated", report), ("random latents", baseline))
    }
    return bars, {"n": report.metrics[0].n, "value, low, high": metrics}


@torch.inference_mode()
def _of_random_latents(checkpoints: Path, count: int, seed: int) -> Report:
    """Evaluate volumes decoded from Gaussian latents with the training mean and σ of each position and channel."""
    pipeline: Any = load(checkpoints / REPOSITORY)
    splits = load_volume_data(volumes_like(pipeline, "phantom", recorded_data(checkpoints / REPOSITORY)))
    rows = splits["test"].select(range(count))
    moments = cached_latents(splits["train"], pipeline, LEFT_RIGHT)
    means = torch.from_numpy(np.array(moments[:, 0, : moments.shape[2] // 2], np.float32))
    noise = torch.randn(count, *means.shape[1:], generator=torch.Generator().manual_seed(seed))
    z = normalize_latents(pipeline.vae, means.mean(dim=0) + means.std(dim=0) * noise)
    return evaluate_volumes(
        np.concatenate([pipeline.decode(part).cpu().numpy()[:, 0] for part in z.split(BATCH)]),
        images_of(rows)[:, 0],
        images_of(splits["train"])[:, 0],
        covariates_of(pipeline, rows),
        covariates_of(pipeline, splits["train"]),
        None,
        spacing=pipeline.config["spacing"],
        dataset="phantom, held out",
        seed=seed,
    )
