"""The paper's configuration: the size of its network, and one training and one sampling step at 224²."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed

from meddiffusers.datasets.labelled_config import LabelledDataConfig
from meddiffusers.evaluation.results import Bar
from meddiffusers.training.engine.config import TrainingConfig
from meddiffusers.training.engine.parsing import parse_config
from meddiffusers.training.engine.randomness import BatchRandom
from meddiffusers.training.tasks.segmentation.loss import SegmentationDiffusionLoss
from meddiffusers.training.tasks.segmentation.model import SegmentationModelConfig, build_segmentation_pipeline

CONFIG = "training/configs/segmentation_paper.yaml"
REFERENCE = 113_674_370  # parameters of the reference's network in the same configuration


def paper(_checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """One training step on noise, and one sampling step."""
    data, model, _ = parse_config(
        LabelledDataConfig, SegmentationModelConfig, TrainingConfig, argv=["--config", CONFIG]
    )
    set_seed(seed)
    pipeline: Any = build_segmentation_pipeline(data, model)
    denoising = SegmentationDiffusionLoss(pipeline, model)
    random, size = BatchRandom(seed), data.resolution
    batch = {"image": random.rand(1, 4, size, size), "masks": random.randint(0, 2, (1, 1, size, size)).byte()}
    start = time.perf_counter()
    loss = denoising(pipeline.unet, batch, random)["loss"]
    loss.backward()
    torch.optim.AdamW(pipeline.unet.parameters(), lr=1e-4).step()
    trained, start = time.perf_counter() - start, time.perf_counter()
    output = pipeline(batch["image"], num_inference_steps=1, ensemble_size=1)
    sampled = time.perf_counter() - start
    finite = float(loss.isfinite() and torch.from_numpy(output.probability).isfinite().all())
    bars = [
        Bar("paper: parameters", pipeline.unet.num_parameters(), "==", REFERENCE),
        Bar("paper: a training step and a sampling step at 224² are finite", finite, "==", 1),
    ]
    return bars, {
        "n": 1,
        "seconds of a training step": round(trained, 1),
        "seconds of a sampling step": round(sampled, 1),
    }
