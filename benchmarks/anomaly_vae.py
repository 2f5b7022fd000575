"""Baseline of the anomaly benchmark: a variational autoencoder, with its reconstruction error as the map.

It is trained on the healthy training images only (Baur et al. 2021, "Autoencoders for unsupervised anomaly segmentation
in brain MR images"). The results include its training time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from accelerate.utils import extract_model_from_parallel, set_seed
from diffusers import AutoencoderKL
from torch import Tensor, nn

from meddiffusers.datasets.labelled_config import LabelledDataConfig, load_labelled_data
from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE
from meddiffusers.evaluation.anomaly.baselines import result_from_map
from meddiffusers.evaluation.anomaly.result import AnomalyResult
from meddiffusers.pipelines.meddiffusers_anomaly_maps_v1 import SMOOTHING
from meddiffusers.training.engine.config import TrainingConfig
from meddiffusers.training.engine.loop import train
from meddiffusers.training.engine.parsing import parse_config
from meddiffusers.training.engine.randomness import BatchRandom
from meddiffusers.training.engine.task import Validation
from meddiffusers.training.losses.augmentation import random_flip
from meddiffusers.training.tasks.image_diffusion.model import ImageDiffusionConfig
from meddiffusers.training.tasks.labelled_slices import LabelledSliceTask
from meddiffusers.utils.atomic import write_json

CONFIG, RUN = "training/configs/image_diffusion_brain.yaml", Path("runs/anomaly-vae")
CHANNELS, LATENT = (32, 64, 96, 128), 8  # a latent image of 12 × 12 pixels, which holds a brain but few lesions
KL_WEIGHT = 1e-4
BATCH = 32


class ReconstructionTask(LabelledSliceTask):
    """Squared error and Kullback–Leibler divergence, on images without any lesion."""

    def __init__(self, data: LabelledDataConfig, splits: Mapping[str, datasets.Dataset]) -> None:
        super().__init__(data, splits)
        self.vae = AutoencoderKL(
            in_channels=len(data.modalities),
            out_channels=len(data.modalities),
            block_out_channels=CHANNELS,
            down_block_types=("DownEncoderBlock2D",) * len(CHANNELS),
            up_block_types=("UpDecoderBlock2D",) * len(CHANNELS),
            latent_channels=LATENT,
            norm_num_groups=16,
            sample_size=data.resolution,
        )

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"vae": self.vae}

    def loss(
        self, modules: Mapping[str, nn.Module], batch: dict[str, Tensor], random: BatchRandom
    ) -> dict[str, Tensor]:
        image = 2 * random_flip(batch["image"], batch["masks"], random)[0] - 1
        vae = extract_model_from_parallel(modules["vae"])
        posterior = vae.encode(image).latent_dist
        decoded = vae.decode(posterior.mean + posterior.std * random.randn_like(posterior.mean)).sample
        divergence = posterior.kl().mean() / image[0].numel()
        squared = (decoded - image).square().mean()
        return {"loss": squared + KL_WEIGHT * divergence, "mse": squared}

    def validate(self, modules: Mapping[str, nn.Module], step: int) -> Validation:
        return Validation()

    def build_pipeline(self, modules: Mapping[str, nn.Module]) -> Any:
        return extract_model_from_parallel(modules["vae"], keep_fp32_wrapper=False)

    def save(self, pipeline: Any, folder: Path) -> None:
        pipeline.save_pretrained(folder)


def trained_vae(minutes: float) -> tuple[AutoencoderKL, dict[str, float]]:
    """The autoencoder, and how it was trained: steps and minutes. An earlier run is used again."""
    done = RUN / "facts.json"
    if not done.is_file():
        data, _, training = parse_config(
            LabelledDataConfig, ImageDiffusionConfig, TrainingConfig, argv=["--config", CONFIG]
        )
        splits = load_labelled_data(data)
        healthy = [not masks.any() for masks in splits["train"].with_format("numpy")["masks"]]
        splits["train"] = splits["train"].select(np.flatnonzero(healthy))
        set_seed(training.seed)
        settings: dict[str, Any] = {"output_dir": str(RUN), "max_train_minutes": minutes, "max_train_steps": 100_000}
        settings |= {"lr_scheduler": "constant_with_warmup", "validation_steps": None, "learning_rate": 5e-4}
        result = train(ReconstructionTask(data, splits), replace(training, **settings))
        write_json(done, {"steps": result.step, "minutes": result.seconds / 60, "images": sum(healthy)})
    return AutoencoderKL.from_pretrained(RUN).eval(), json.loads(done.read_text())


@torch.inference_mode()
def run_vae(vae: AutoencoderKL, rows: datasets.Dataset, like: AnomalyResult, channel: int) -> AnomalyResult:
    """Detect anomalies in the rows of `like` with the autoencoder; figures show the modality `channel`."""
    images = torch.from_numpy(np.stack(rows.with_format("numpy")["image"]).astype(np.float32) / INTENSITY_SCALE)
    decoded = torch.cat([vae.decode(vae.encode(2 * part - 1).latent_dist.mean).sample for part in images.split(BATCH)])
    rebuilt = ((decoded + 1) / 2).clamp(0, 1)
    maps = (images - rebuilt).abs().mean(dim=1).numpy()
    return result_from_map(like, maps, rebuilt[:, channel].numpy(), SMOOTHING)
