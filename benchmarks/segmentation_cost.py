"""Cost of a slice: the pipeline against its bare network passes, and against the paper's thousand steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler
from timing import medians_in_turn, seconds_of

from meddiffusers.evaluation.results import Bar
from meddiffusers.hub.load import load

MEMBERS, STEPS, PAPER_STEPS, ROUNDS = 5, 10, 1000, 15


@torch.inference_mode()
def cost(checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """Ratios of median run times, measured alternately in this process."""
    pipeline: Any = load(checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    size = pipeline.unet.config["sample_size"]
    image = torch.rand(1, len(pipeline.modalities), size, size, generator=torch.Generator().manual_seed(seed))
    masks = torch.randn(MEMBERS, pipeline.mask_channels, size, size)

    def whole() -> None:
        pipeline(image, num_inference_steps=STEPS, ensemble_size=MEMBERS)

    def bare() -> None:
        features = pipeline.encode_image(image.expand(pipeline.config["num_tta_views"], -1, -1, -1))[:1]
        for step in range(STEPS):
            pipeline.unet(masks, step, features=features)

    ours, passes = medians_in_turn(whole, bare, rounds=ROUNDS)
    pipeline.scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    many = seconds_of(lambda: pipeline(image, num_inference_steps=PAPER_STEPS, ensemble_size=MEMBERS))
    bars = [
        Bar(f"cost: a slice, {MEMBERS} members, {STEPS} steps, over its network passes", ours / passes, "<=", 1.05),
        Bar(f"cost: {MEMBERS} × {PAPER_STEPS} steps over {MEMBERS} × {STEPS}", many / ours, ">=", 50),
    ]
    return bars, {"n": ROUNDS, "seconds a slice": round(ours, 4), "seconds a slice, 1000 steps": round(many, 2)}
