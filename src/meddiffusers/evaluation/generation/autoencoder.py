"""Evaluation of an autoencoder by its reconstructions of held-out images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.evaluation.generation.fidelity import kid_metric
from meddiffusers.evaluation.metrics.bootstrap import OVER_SUBJECTS, bootstrap_mean_interval
from meddiffusers.evaluation.metrics.image_features import EfficientNetLite0
from meddiffusers.evaluation.metrics.kid import kid_score
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.results import Metric, run_facts
from meddiffusers.models.monai_autoencoder import MonaiAutoencoderKL
from meddiffusers.pipelines.meddiffusers_latents_v1 import decode_latents, encode_images

SHOWN, BATCH = 8, 16


def evaluate_autoencoder(
    images: np.ndarray, decoded: np.ndarray, subjects: Sequence[str], *, dataset: str, seed: int = 0
) -> Report:
    """Compare images with their reconstructions.

    Args:
        images: (B, H, W) in [0, 1].
        decoded: (B, H, W), their reconstructions.
        subjects: B names, the subject of each image.
        dataset: Name of the data, for the report.
        seed: Seed of the bootstrap over subjects.
    """
    pairs = list(zip(images, decoded, strict=True))
    per_image = {
        "mae": ("Mean absolute error", np.abs(images - decoded).mean(axis=(1, 2))),
        "psnr": ("PSNR [dB]", np.array([peak_signal_noise_ratio(*pair, data_range=1) for pair in pairs])),
        "ssim": ("SSIM", np.array([structural_similarity(*pair, data_range=1) for pair in pairs])),
    }
    metrics = []
    for key, (name, values) in per_image.items():
        low, high = bootstrap_mean_interval(values, subjects, seed)
        metrics.append(Metric(key, name, key, float(values.mean()), dataset, len(values), low, high, OVER_SUBJECTS))
    network = EfficientNetLite0()
    kid = kid_score(network(images).cpu().numpy(), network(decoded).cpu().numpy(), seed=seed)
    metrics.append(kid_metric("kid", "reconstructions", kid, dataset))
    rows = {
        "image": images[:SHOWN],
        "decoded": decoded[:SHOWN],
        "difference × 4": 4 * np.abs(images - decoded)[:SHOWN],
    }
    figures = {"Images, their reconstructions, and the difference": panel(rows, ranges=dict.fromkeys(rows, (0.0, 1.0)))}
    return Report(metrics, run_facts(seed), {}, figures)


@torch.no_grad()
def reconstruct(
    vae: AutoencoderKL | MonaiAutoencoderKL, images: torch.Tensor, image_range: Sequence[float] = (-1.0, 1.0)
) -> torch.Tensor:
    """Reconstruct images or volumes (B, C, …) in [0, 1] from the means of their latents, as pipelines do.

    Args:
        vae: The autoencoder.
        images: Images or volumes (B, C, …) in [0, 1].
        image_range: Values of the intensities 0 and 1 in the autoencoder's input and output.
    """
    model: Any = vae  # diffusers' class has no types
    batches = []
    for batch in images.split(BATCH):
        latents = encode_images(model, batch.to(model.device), image_range)
        batches.append(decode_latents(model, latents, image_range).cpu())
    return torch.cat(batches)
