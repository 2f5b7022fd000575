"""Training data of text-to-MR models, encoded once and kept on disk: latents of images and tokens of prompts.

For N images in V views (original and mirrored) and K prompts for each view, a folder of memory-mapped arrays:

moments.npy  (N, V, 2c, h, w) float16    mean and log variance of the latents
tokens.npy   (Σ T, W) float16            encoded tokens of all prompts, concatenated
ends.npy     (N·V·K,) int64              where the tokens of each prompt end
values.npy   (N, V, K, Q) float32        numbers in the prompts, NaN where a prompt does not mention them
prompts.json N·V·K texts                 the prompts
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor
from tqdm.auto import tqdm

from meddiffusers.data.prompts import sample_facts, write_prompt_within
from meddiffusers.datasets.captioned_slices import facts_of
from meddiffusers.datasets.rows import images_of
from meddiffusers.pipelines.meddiffusers_latents_v1 import encode_posterior
from meddiffusers.pipelines.text_to_mr_pipeline import TextToMRPipeline
from meddiffusers.training.engine.randomness import derive_seed
from meddiffusers.training.tasks.latent_diffusion.cache import digest
from meddiffusers.utils.atomic import atomic_path
from meddiffusers.utils.reading import read_json

VIEWS = 2
BATCH = 16  # images that are encoded at once
ARRAYS = ("moments", "tokens", "ends", "values")
logger = logging.getLogger(__name__)
_VERSION = 3  # of the folder's content: raise it with every change that makes earlier caches invalid


class CachedText:
    """A map-style data set from such a folder.

    An item is an image in a random view with a random prompt: "moments" (2c, h, w), "tokens" (T, W) and "values" (Q,),
    all float32, and "prompt", the text.
    """

    def __init__(self, folder: Path) -> None:
        self.moments, self.tokens, self.ends, self.values = (
            np.lib.format.open_memmap(folder / f"{name}.npy", mode="r") for name in ARRAYS
        )
        self.prompts = read_json(folder / "prompts.json", list)

    def __len__(self) -> int:
        return len(self.moments)

    def __getitem__(self, index: int) -> dict[str, Any]:
        view, caption = np.random.randint(self.values.shape[1:3])  # seeded by the engine
        return self.item(index, int(view), int(caption))

    def item(self, index: int, view: int, caption: int) -> dict[str, Any]:
        """The item of this image, view and prompt."""
        _, views, captions, _ = self.values.shape
        number = (index * views + view) * captions + caption
        first = self.ends[number - 1] if number else 0
        parts = {
            "moments": self.moments[index, view],
            "tokens": self.tokens[first : self.ends[number]],
            "values": self.values[index, view, caption],
        }
        arrays = {name: torch.from_numpy(part.astype(np.float32)) for name, part in parts.items()}
        return {**arrays, "prompt": self.prompts[number]}


def cached_text(rows: datasets.Dataset, pipeline: TextToMRPipeline, captions: int, seed: int = 0) -> CachedText:
    """Encode the images and prompts of rows, again only for other weights, rows, captions or seeds.

    Args:
        rows: Rows of a captioned data set.
        pipeline: Pipeline whose autoencoder, text encoder and quantity encoder are used.
        captions: Number of prompts for each view of an image.
        seed: Seed of the prompts.

    Raises:
        ValueError: The first sentence of a prompt alone is too long for the text encoder.
    """
    weights = [digest(part) for part in (pipeline.vae, pipeline.text_encoder)]
    names = getattr(pipeline.quantity_encoder, "id2label", {})
    key = [
        _VERSION,
        rows._fingerprint,
        captions,
        seed,
        pipeline.max_tokens,
        *pipeline.image_range,
        *weights,
        *names.values(),
    ]
    name = hashlib.blake2b("-".join(map(str, key)).encode(), digest_size=8).hexdigest()
    folder = Path(datasets.config.HF_DATASETS_CACHE, "meddiffusers-text", name)
    with PartialState().main_process_first():
        cached = _read(folder, len(rows), captions)
        if cached is None:
            with atomic_path(folder) as staged:
                staged.mkdir()
                with warnings.catch_warnings(record=True) as shortened:
                    warnings.filterwarnings("always", "A prompt of all")
                    _write(staged, rows, pipeline, captions, seed)
                if shortened:
                    logger.warning("%d times, the first: %s", len(shortened), shortened[0].message)
            cached = CachedText(folder)
    return cached


def _read(folder: Path, count: int, captions: int) -> CachedText | None:
    """The data in a folder; None if there is none, or if it is damaged, which is warned of, and then removed."""
    if not folder.is_dir():
        return None
    try:
        cached = CachedText(folder)
        prompts = count * VIEWS * captions
        lengths = (len(cached.moments), len(cached.ends), len(cached.prompts), len(cached.tokens))
        if lengths != (count, prompts, prompts, cached.ends[-1]) or cached.values.shape[:3] != (count, VIEWS, captions):
            raise ValueError("its files do not belong together")
    except (ValueError, OSError, EOFError, AttributeError, IndexError, TypeError) as error:
        logger.warning("The cache %s is damaged (%s); images and prompts are encoded again.", folder, error)
        shutil.rmtree(folder)
        return None
    return cached


def _write_prompts(
    row: dict[str, Any], index: int, tokenizer: Any, max_tokens: int, captions: int, seed: int
) -> list[str]:
    """V·K prompts of a row; those of the mirrored image come last."""
    facts, prompts = facts_of(row), []
    for view, view_facts in enumerate((facts, facts.mirrored())):
        for caption in range(captions):
            prompt_seed = derive_seed(seed, index, view, caption)
            varied = sample_facts(view_facts, prompt_seed)
            prompts.append(write_prompt_within(varied, tokenizer, max_tokens, prompt_seed))
    return prompts


@torch.no_grad()
def _write(folder: Path, rows: datasets.Dataset, pipeline: TextToMRPipeline, captions: int, seed: int) -> None:
    """Write all arrays; tokens are appended to a raw file first, since their number is not known in advance."""
    ends, values, moments, prompts, raw, total = [], [], [], [], folder / "tokens.raw", 0
    with raw.open("wb") as file:
        for first in tqdm(range(0, len(rows), BATCH), desc="Latents and tokens", leave=False):
            part = rows.select(range(first, min(first + BATCH, len(rows))))
            moments.append(_moments(pipeline, torch.from_numpy(images_of(part))))
            texts = [
                text
                for index, row in enumerate(part.select_columns(["facts"]), first)
                for text in _write_prompts(row, index, pipeline.tokenizer, pipeline.max_tokens, captions, seed)
            ]
            states, lengths, numbers = _encode_prompts(pipeline, texts)
            file.write(states.tobytes())
            prompts += texts
            values.append(numbers.reshape(len(part), VIEWS, captions, -1))
            for length in lengths:
                ends.append(total := total + length)
    width = pipeline.text_encoder.config.hidden_size
    tokens = np.lib.format.open_memmap(folder / "tokens.npy", "w+", np.float16, (total, width))
    tokens[:] = np.memmap(raw, np.float16, "r", shape=(total, width))
    tokens.flush()
    raw.unlink()
    (folder / "prompts.json").write_text(json.dumps(prompts), encoding="utf-8")
    arrays = {"moments": np.concatenate(moments), "ends": np.array(ends), "values": np.concatenate(values)}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def _moments(pipeline: TextToMRPipeline, images: Tensor) -> np.ndarray:
    """Return the moments (B, V, 2c, h, w) of images (B, 1, H, W) in [0, 1] and of their mirror images."""
    views = torch.stack([images, images.flip(-1)], dim=1).flatten(0, 1).to(pipeline.vae.device)
    moments = encode_posterior(pipeline.vae, views, pipeline.image_range).parameters
    return moments.unflatten(0, (-1, VIEWS)).cpu().to(torch.float16).numpy()


def _encode_prompts(pipeline: TextToMRPipeline, texts: list[str]) -> tuple[np.ndarray, list[int], np.ndarray]:
    """Tokens (Σ T, W) without padding, the number of tokens of each text, and the numbers (N, Q) in the texts."""
    states, mask = pipeline.encode_text(texts)
    unpadded = torch.cat([tokens[real.bool()] for tokens, real in zip(states, mask, strict=True)])
    values = np.empty((len(texts), 0), np.float32)
    if pipeline.quantity_encoder is not None:
        numbers, known = pipeline.quantity_encoder.read(texts)
        values = torch.where(known, numbers, torch.nan).numpy()
    return unpadded.cpu().to(torch.float16).numpy(), mask.sum(dim=1).tolist(), values
