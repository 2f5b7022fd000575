"""What a slice costs: the pipeline beside its bare network passes, and beside the paper's thousand steps."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler

from meddiffusers.evaluation.results import Bar
from meddiffusers.hub.load import load

MEMBERS, STEPS, PAPER_STEPS, ROUNDS = 5, 10, 1000, 15


@torch.inference_mode()
def cost(checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """Ratios of times that are taken in turn, the median of each, in this process."""
    pipeline: Any = load(checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    size = pipeline.unet.config["sample_size"]
    picture = torch.rand(1, len(pipeline.sequences), size, size, generator=torch.Generator().manual_seed(seed))
    masks = torch.randn(MEMBERS, pipeline.mask_channels, size, size)

    def whole() -> None:
        pipeline(picture, num_inference_steps=STEPS, ensemble_size=MEMBERS)

    def bare() -> None:
        features = pipeline.encode_image(picture)
        for step in range(STEPS):
            pipeline.unet(masks, step, features=features)

    times: dict[str, list[float]] = {"whole": [], "bare": []}
    for _ in range(ROUNDS):
        times["whole"].append(_seconds(whole))
        times["bare"].append(_seconds(bare))
    ours, passes = (statistics.median(times[name]) for name in ("whole", "bare"))
    pipeline.scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    many = _seconds(lambda: pipeline(picture, num_inference_steps=PAPER_STEPS, ensemble_size=MEMBERS))
    bars = [
        Bar(f"cost: a slice, {MEMBERS} members, {STEPS} steps, over its network passes", ours / passes, "<=", 1.05),
        Bar(f"cost: {MEMBERS} × {PAPER_STEPS} steps over {MEMBERS} × {STEPS}", many / ours, ">=", 50),
    ]
    return bars, {"seconds a slice": round(ours, 4), "seconds a slice, 1000 steps": round(many, 2)}


def _seconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
