"""Fidelity and memorization of images that the diffusion model generates from pure noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anomaly_quality import DATASET
from diffusers import DDIMScheduler

from meddiffusers import ImageDiffusionPipeline
from meddiffusers.datasets.labelled_config import LabelledDataConfig, load_labelled_data
from meddiffusers.datasets.rows import images_of
from meddiffusers.evaluation.generation.fidelity import evaluate_generation, generate_images
from meddiffusers.evaluation.results import Bar
from meddiffusers.hub.load import load
from meddiffusers.training.engine.config import TrainingConfig
from meddiffusers.training.engine.parsing import parse_config
from meddiffusers.training.tasks.image_diffusion.model import ImageDiffusionConfig

CONFIG, COUNT = "training/configs/image_diffusion_brain.yaml", 256
FOLDER = Path("benchmarks/results/anomaly_generation")


def generation(checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """The bars; the report is saved to a folder beside the results."""
    detector: Any = load(checkpoint)
    known = {name: detector.config[name] for name in ("modalities", "spacing", "image_range")}
    scheduler = DDIMScheduler.from_config(detector.scheduler.config, timestep_spacing="trailing")
    pipeline = ImageDiffusionPipeline(detector.unet, scheduler, **known)
    config = parse_config(LabelledDataConfig, ImageDiffusionConfig, TrainingConfig, argv=["--config", CONFIG])[0]
    data = load_labelled_data(config)
    images = generate_images(pipeline, COUNT, seed)
    report = evaluate_generation(
        images, images_of(data["test"]), images_of(data["train"]), pipeline.modalities, dataset=DATASET, seed=seed
    )
    report.save(FOLDER)
    kid, held_out, copies = (report.metric(key) for key in ("kid", "kid_held_out", "nn_copies"))
    limit = 2 * held_out.value + (held_out.high - held_out.value)
    bars = [
        Bar("generation: KID minus twice that of held-out halves and its interval", kid.value - limit, "<=", 0),
        Bar("generation: fraction closer to a training image than 99 % of held-out ones", copies.value, "<=", 0.05),
    ]
    return bars, {"n": COUNT} | {metric.key: [metric.value, metric.low, metric.high] for metric in report.metrics}
