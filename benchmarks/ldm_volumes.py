"""The shipped model of volumes on the covariates of unseen phantoms, beside its autoencoder fed with random latents.

The judge is `examples/checkpoints/picture-reader-brain`; ages and sexes are learnt from regions that it found in
training volumes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from meddiffusers import PictureReader
from meddiffusers.cli.latent_diffusion import volumes_like
from meddiffusers.evaluation.frechet_distance import frechet_distance
from meddiffusers.evaluation.generation_report import pictures_of
from meddiffusers.evaluation.image_features import EfficientNetLite0
from meddiffusers.evaluation.kernel_distance import kernel_distance
from meddiffusers.evaluation.latent_diffusion_run import covariates_of, drawn_volumes
from meddiffusers.evaluation.results import Bar
from meddiffusers.evaluation.volume_report import diversity, evaluate_volumes
from meddiffusers.evaluation.volume_slices import plane_slices
from meddiffusers.hub.load import load
from meddiffusers.training.latent_cache import cached_latents
from meddiffusers.training.volume_data import load_volume_data

REPOSITORY, READER, PICTURES = "ldm-brain-3d", "picture-reader-brain", Path("benchmarks/results/ldm_volumes")
COUNT, LEFT_RIGHT, BATCH = 200, 2, 4


def volumes(checkpoints: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """The bars of covariates and likeness; pictures go to a folder beside the results."""
    pipeline: Any = load(checkpoints / REPOSITORY)
    pipeline.set_progress_bar_config(disable=True)
    splits = load_volume_data(volumes_like(pipeline, "phantom"))
    rows = splits["test"].select(range(COUNT))
    told = covariates_of(pipeline, rows)
    images, real = drawn_volumes(pipeline, told, seed)[:, 0], pictures_of(rows)[:, 0]
    report = evaluate_volumes(
        images,
        real,
        pictures_of(splits["train"])[:, 0],
        told,
        covariates_of(pipeline, splits["train"]),
        PictureReader.from_pretrained(checkpoints / READER).eval(),
        spacing=pipeline.config["spacing"],
        dataset="phantom, unseen",
        seed=seed,
    )
    report.save(PICTURES)
    random = _of_random_latents(pipeline, splits["train"], seed)
    likeness = {name: _likeness(of, real, seed) for name, of in (("drawn", images), ("random latents", random))}
    value = report.value
    (halves,) = (metric for metric in report.metrics if metric.name == "kernel distance, held-out halves")
    allowed = 2 * max(halves.value, 0) + halves.high - halves.value
    distance = [likeness[name]["Fréchet distance"] for name in likeness]
    unlike = [abs(likeness[name]["MS-SSIM"] - value("MS-SSIM of pairs, held-out")) for name in likeness]
    bars = [
        Bar("volumes: r of asked and read ventricles", value("ventricular_volume_ml r"), ">=", 0.9),
        Bar("volumes: error of the ventricles, ml", value("ventricular_volume_ml error"), "<=", 5),
        Bar("volumes: r of asked and read brain volume", value("brain_volume_ml r"), ">=", 0.85),
        Bar("volumes: r of asked age and that learnt from regions", value("age r"), ">=", 0.7),
        Bar(
            "volumes: kernel distance; twice that of halves, and its interval", value("kernel distance"), "<=", allowed
        ),
        Bar("volumes: Fréchet distance over that of random latents", distance[0] / distance[1], "<=", 1),
        Bar(
            "volumes: MS-SSIM's distance from held-out pairs', over that of random latents",
            unlike[0] / unlike[1],
            "<=",
            1,
        ),
    ]
    figures = {metric.name: [metric.value, metric.low, metric.high] for metric in report.metrics}
    return bars, {"n": COUNT, "value, low, high": figures, **likeness}


@torch.inference_mode()
def _of_random_latents(pipeline: Any, rows: Any, seed: int) -> np.ndarray:
    """Volumes (N, X, Y, Z) of latents drawn from the normal distribution of each place and channel in training."""
    moments = cached_latents(rows, pipeline.vae, LEFT_RIGHT)
    means = torch.from_numpy(np.array(moments[:, 0, : moments.shape[2] // 2], np.float32))
    noise = torch.randn(COUNT, *means.shape[1:], generator=torch.Generator().manual_seed(seed))
    z = (means.mean(dim=0) + means.std(dim=0) * noise) * pipeline.vae.config["scaling_factor"]
    return np.concatenate([pipeline.decode(part).cpu().numpy()[:, 0] for part in z.split(BATCH)])


def _likeness(images: np.ndarray, real: np.ndarray, seed: int) -> dict[str, float]:
    """Distances of middle slices' features, and how alike two volumes are."""
    network = EfficientNetLite0()
    drawn, held_out = (
        np.concatenate([network(cuts[:, plane]).cpu().numpy() for plane in range(3)], axis=1)
        for cuts in map(plane_slices, (images, real))
    )
    return {
        "kernel distance": kernel_distance(held_out, drawn, seed=seed).value,
        "Fréchet distance": frechet_distance(held_out, drawn),
        "MS-SSIM": float(np.mean(diversity(images, seed))),
    }
