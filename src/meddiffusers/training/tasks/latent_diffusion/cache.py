"""Latents of images or volumes and of their mirror images, computed once and kept on disk.

An array (N, 2, 2c, …) float16: for N rows, original and mirrored, the mean and the standard deviation of c latent
channels, before `scaling_factor` and `shift_factor` are applied.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import datasets
import numpy as np
import torch
from accelerate import PartialState
from torch import nn
from tqdm.auto import tqdm

from meddiffusers.datasets.rows import images_of
from meddiffusers.pipelines.latent_diffusion_pipeline import LatentDiffusionPipeline
from meddiffusers.pipelines.meddiffusers_latents_v1 import encode_posterior
from meddiffusers.utils.atomic import atomic_path

logger = logging.getLogger(__name__)
BATCH = 4  # rows that are encoded at once
_VERSION = 2  # of the file's content: raise it with every change that makes earlier caches invalid


def cached_latents(rows: datasets.Dataset, pipeline: LatentDiffusionPipeline, axis: int) -> np.ndarray:
    """Return the latents of rows, which are encoded again only for other rows, weights, intensities or axes.

    Args:
        rows: Data set with a column "image".
        pipeline: Pipeline whose autoencoder encodes the images in its `image_range`.
        axis: Axis of a batch (B, C, …) that runs from left to right.

    Returns:
        A memory-mapped array (N, 2, 2c, …), see above.
    """
    key = "-".join(map(str, (_VERSION, rows._fingerprint, axis, *pipeline.image_range, digest(pipeline.vae))))
    name = hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
    path = Path(datasets.config.HF_DATASETS_CACHE, "meddiffusers-latents", f"{name}.npy")
    with PartialState().main_process_first():
        latents = _read(path, len(rows))
        if latents is None:
            with atomic_path(path) as staged:
                np.save(staged, _moments(rows, pipeline, axis))
            latents = np.lib.format.open_memmap(path, mode="r")
    return latents


def _read(path: Path, count: int) -> np.ndarray | None:
    """The latents in a file; None if there is none, or a damaged one, which is warned of."""
    if not path.is_file():
        return None
    try:
        latents = np.lib.format.open_memmap(path, mode="r")
        if latents.shape[:2] != (count, 2) or latents.dtype != np.float16:
            raise ValueError("it holds something else")
    except (ValueError, OSError, EOFError) as error:
        logger.warning("The cache %s is damaged (%s); the latents are computed again.", path, error)
        return None
    return latents


@torch.no_grad()
def _moments(rows: datasets.Dataset, pipeline: LatentDiffusionPipeline, axis: int) -> np.ndarray:
    parts = []
    for first in tqdm(range(0, len(rows), BATCH), desc="Latents", leave=False):
        batch = rows.select(range(first, min(first + BATCH, len(rows))))
        images = torch.from_numpy(images_of(batch)).to(pipeline.vae.device)
        views = (images, images.flip(axis))
        posteriors = [encode_posterior(pipeline.vae, view, pipeline.image_range) for view in views]
        moments = torch.stack([torch.cat([each.mean, each.std], dim=1) for each in posteriors], dim=1)
        parts.append(moments.cpu().to(torch.float16).numpy())
    return np.concatenate(parts)


def digest(module: nn.Module) -> str:
    """Return a hash of all weights."""
    hashed = hashlib.blake2b(digest_size=8)
    for name, tensor in module.state_dict().items():
        hashed.update(name.encode())
        hashed.update(tensor.detach().cpu().float().numpy().tobytes())
    return hashed.hexdigest()
