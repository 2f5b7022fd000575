"""Cost of an image relative to its bare network passes, and of a training step with and without caches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from text_to_mr_quality import CONFIG, splits_of_config
from timing import medians_in_turn

from meddiffusers import TextToMRPipeline
from meddiffusers.datasets.captioned_config import CaptionedDataConfig
from meddiffusers.datasets.rows import images_of
from meddiffusers.evaluation.results import Bar
from meddiffusers.evaluation.text_to_mr.run import prompts_of, targets_of
from meddiffusers.hub.load import load
from meddiffusers.training.engine.config import TrainingConfig
from meddiffusers.training.engine.parsing import parse_config
from meddiffusers.training.engine.randomness import BatchRandom
from meddiffusers.training.tasks.text_to_mr.model import TextToMRConfig
from meddiffusers.training.tasks.text_to_mr.task import TextToMRTask

STEPS, ROUNDS, BATCH = 20, 9, 16


def cost(checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """Ratios of run times, measured alternately in this process."""
    data, config, _ = parse_config(CaptionedDataConfig, TextToMRConfig, TrainingConfig, argv=["--config", CONFIG])
    splits = splits_of_config()
    with torch.inference_mode():
        whole, bare = _seconds_per_image(
            load(checkpoint), prompts_of(load(checkpoint), targets_of(splits["test"].select([0])))
        )
    few = {name: split.select(range(BATCH)) for name, split in splits.items()}
    settings = {"pretrained_model_name_or_path": str(checkpoint), "captions_per_image": 1}
    task = TextToMRTask(data, TextToMRConfig(**settings), few)
    task.pipeline.to("cpu")  # where the batches below are, also on a machine with a GPU
    with_cache, without = _seconds_per_step(task, few["train"], seed)
    bars = [
        Bar(f"cost: an image, {STEPS} steps, over its network passes", whole / bare, "<=", 1.05),
        Bar("cost: times faster with cached latents and tokens", without / with_cache, ">=", 3),
    ]
    facts = {"seconds an image": whole, "seconds a step, cached": with_cache, "seconds a step": without}
    return bars, {"n": ROUNDS, "batch": BATCH, "prediction": config.prediction_type, **facts}


def _seconds_per_image(pipeline: TextToMRPipeline, texts: list[str]) -> list[float]:
    pipeline.set_progress_bar_config(disable=True)
    tokens, mask, negative, negative_mask = pipeline.encode_prompt(texts)
    tokens, mask = torch.cat([negative, tokens]), torch.cat([negative_mask, mask])
    latents = pipeline.prepare_latents(1, None, None, None, None, None, torch.tensor([999]))

    def whole() -> None:
        pipeline(texts, num_inference_steps=STEPS)

    def bare() -> None:
        pipeline.encode_prompt(texts)
        for step in range(STEPS):
            pipeline.unet(torch.cat([latents] * 2), step, encoder_hidden_states=tokens, encoder_attention_mask=mask)
        pipeline.decode(latents)

    return medians_in_turn(whole, bare, rounds=ROUNDS)


def _seconds_per_step(task: TextToMRTask, rows: Any, seed: int) -> list[float]:
    """Seconds of a forward and a backward pass of a batch, with cached and with computed latents and tokens."""
    pipeline, images = task.pipeline, torch.from_numpy(images_of(rows))
    texts = prompts_of(pipeline, targets_of(rows))

    def step(batch: dict[str, torch.Tensor]) -> None:
        task.loss(task.modules, batch, BatchRandom(seed))["loss"].backward()
        for module in task.modules.values():
            module.zero_grad()

    def with_cache() -> None:
        step(task.collate([task.train_dataset.item(number, 0, 0) for number in range(BATCH)]))

    def without() -> None:
        with torch.no_grad():
            moments = pipeline.vae.encode(2 * images - 1).latent_dist.parameters
            tokens, mask = pipeline.encode_text(texts)
            values, known = pipeline.quantity_encoder.read(texts)
        values = torch.where(known, values, torch.nan)
        step({"moments": moments, "tokens": tokens, "mask": mask, "values": values})

    return medians_in_turn(with_cache, without, rounds=ROUNDS)
