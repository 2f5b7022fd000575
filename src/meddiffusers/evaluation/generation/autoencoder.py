"""How much of a image comes back from an autoencoder of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.evaluation.metrics.bootstrap import bootstrap_mean_interval
from meddiffusers.evaluation.metrics.image_features import NAME, EfficientNetLite0
from meddiffusers.evaluation.metrics.kid import kid_score
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.results import Metric, run_facts

SHOWN, BATCH = 8, 16


def evaluate_autoencoder(
    images: np.ndarray, decoded: np.ndarray, subjects: Sequence[str], *, dataset: str, seed: int = 0
) -> Report:
    """Metrics and images of images (N, H, W) in [0, 1] and of what came back; whose they are."""
    pairs = list(zip(images, decoded, strict=True))
    per_image = {
        "mean absolute error": np.abs(images - decoded).mean(axis=(1, 2)),
        "PSNR, dB": np.array([peak_signal_noise_ratio(*pair, data_range=1) for pair in pairs]),
        "SSIM": np.array([structural_similarity(*pair, data_range=1) for pair in pairs]),
    }
    metrics = [
        Metric(
            name,
            float(values.mean()),
            dataset,
            len(values),
            *bootstrap_mean_interval(values, subjects, seed),
            "95 %, subjects",
        )
        for name, values in per_image.items()
    ]
    network = EfficientNetLite0()
    found = kid_score(network(images).cpu().numpy(), network(decoded).cpu().numpy(), seed=seed)
    note = f"{NAME}; {found.generated} against {found.real}"
    metrics.append(
        Metric(
            "kernel distance", found.value, dataset, found.generated, found.low, found.high, "95 %, random halves", note
        )
    )
    rows = {
        "image": images[:SHOWN],
        "decoded": decoded[:SHOWN],
        "difference × 4": 4 * np.abs(images - decoded)[:SHOWN],
    }
    figures = {"Images, and what comes back of them": panel(rows, ranges=dict.fromkeys(rows, (0.0, 1.0)))}
    return Report(metrics, run_facts(seed), {}, figures)


@torch.no_grad()
def reconstruct(vae: Any, images: torch.Tensor) -> torch.Tensor:
    """What comes back of images or volumes (N, C, …) in [0, 1], from the means of their latents."""
    parts = [
        vae.decode(vae.encode((2 * part - 1).to(vae.device, vae.dtype)).latent_dist.mean).sample.float().cpu()
        for part in images.split(BATCH)
    ]
    return ((torch.cat(parts) + 1) / 2).clamp(0, 1)
