"""Latents of images or volumes and of their mirror images, computed once and kept on disk.

(N, 2, 2c, …) float16: of N rows, as they are and mirrored, mean and deviation of c channels.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from accelerate import PartialState
from torch import nn
from tqdm.auto import tqdm

from meddiffusers.datasets.rows import images_of
from meddiffusers.utils.atomic import atomic_path

BATCH = 4  # rows that the autoencoder sees at once
_VERSION = 1  # of what the file holds: raise it with every change that a cache must not outlive


def cached_latents(rows: datasets.Dataset, vae: Any, axis: int) -> np.ndarray:
    """Of rows with a column image, read in place; made anew only for other rows, weights or axes.

    vae: with a `latent_dist` that has `mean` and `std`, of intensities in [-1, 1].
    axis: of a batch (B, C, …), that runs from left to right.
    """
    key = "-".join(map(str, (_VERSION, rows._fingerprint, axis, digest(vae))))
    name = hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
    path = Path(datasets.config.HF_DATASETS_CACHE, "meddiffusers-latents", f"{name}.npy")
    with PartialState().main_process_first():
        if not path.is_file():
            with atomic_path(path) as staged:
                np.save(staged, _moments(rows, vae, axis))
    return np.load(path, mmap_mode="r")


@torch.no_grad()
def _moments(rows: datasets.Dataset, vae: Any, axis: int) -> np.ndarray:
    parts = []
    for first in tqdm(range(0, len(rows), BATCH), desc="Latents", leave=False):
        images = (
            2 * torch.from_numpy(images_of(rows.select(range(first, min(first + BATCH, len(rows)))))).to(vae.device) - 1
        )
        views = [vae.encode(view).latent_dist for view in (images, images.flip(axis))]
        found = torch.stack([torch.cat([each.mean, each.std], dim=1) for each in views], dim=1)
        parts.append(found.cpu().to(torch.float16).numpy())
    return np.concatenate(parts)


def digest(module: nn.Module) -> str:
    """Of all weights."""
    hashed = hashlib.blake2b(digest_size=8)
    for name, tensor in module.state_dict().items():
        hashed.update(name.encode())
        hashed.update(tensor.detach().cpu().float().numpy().tobytes())
    return hashed.hexdigest()
