"""Training task of an autoencoder for latent diffusion: what images and volumes have in common.

Loss = |x − x̂| + w_p · perceptual + β · KL + w_a · (D(x̂) − 1)² for the autoencoder, ½ ((D(x) − 1)² + D(x̂)²) for
the patch discriminator D, both in one step (Rombach et al. 2022, section 3.1; Mao et al. 2017 for the squares):

| symbol | setting |
|---|---|
| w_p | `perceptual_weight` |
| β | `kl_weight`; the divergence is summed over the latents and divided by the number of pixels |
| w_a | `adversarial_weight`; 0: no discriminator |

One over the standard deviation of the latents, measured on training images, is stored as `scaling_factor`. With
`freeze_encoder` the latents and their factor do not change, so that an existing diffusion model remains valid.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import datasets
import numpy as np
import torch
from accelerate.utils import extract_model_from_parallel
from diffusers import AutoencoderKL
from diffusers.models.modeling_utils import ModelMixin
from monai.networks.nets import PatchDiscriminator
from torch import Tensor, nn
from torch.func import functional_call

from meddiffusers.datasets.captioned_config import CaptionedImages
from meddiffusers.datasets.rows import images_of
from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.evaluation.generation.autoencoder import evaluate_autoencoder, reconstruct
from meddiffusers.evaluation.report import Report
from meddiffusers.models.monai_autoencoder import MonaiAutoencoderKL
from meddiffusers.training.engine.randomness import BatchRandom
from meddiffusers.training.engine.task import Validation
from meddiffusers.training.losses.augmentation import random_crop
from meddiffusers.training.losses.perceptual import PerceptualDistance
from meddiffusers.training.tasks.autoencoder.model import AutoencoderConfig, latent_factor, to_published
from meddiffusers.training.tasks.unets import round_to_fp16

NUM_FIGURE, NUM_EVALUATED, BATCH = 8, 256, 32


class AutoencoderTask(ABC):
    """Base of tasks that train an autoencoder. A subclass says which data, which network and which slices to compare.

    Args:
        data: Settings of the data set.
        config: Settings of the autoencoder and of the loss.
        splits: The splits "train" and "test", if they are loaded already.

    Raises:
        ValueError: The repository's autoencoder is for another number of channels; a crop that latents do not divide.
    """

    spatial_dims: ClassVar[int]
    left_right_axis: ClassVar[int]  # of a batch (B, C, …)
    num_scale_images: ClassVar[int]  # training images whose latents give the scaling factor

    def __init__(
        self, data: Any, config: AutoencoderConfig, splits: Mapping[str, datasets.Dataset] | None = None
    ) -> None:
        self.config = config
        self.splits = splits or self._load_data(data)
        self.train_dataset = CaptionedImages(self.splits["train"])
        self.dataset_name = Path(data.dataset_name).name  # local paths are never published
        self.vae = self._build_vae(data, config)
        self.factor = latent_factor(self.vae)
        if (config.crop_size or 0) % self.factor:
            raise ValueError(
                f"crop_size={config.crop_size}; expected a multiple of {self.factor}, the pixels of a latent."
            )
        if config.freeze_encoder:
            for name, part in self.vae.named_children():
                part.requires_grad_(not name.startswith(("encoder", "quant_conv")))
        self.perceptual = PerceptualDistance() if config.perceptual_weight else None
        self.discriminator = self._build_discriminator() if config.adversarial_weight else None

    @abstractmethod
    def _load_data(self, data: Any) -> datasets.DatasetDict:
        """Load the splits "train" and "test"."""

    @abstractmethod
    def _build_vae(self, data: Any, config: AutoencoderConfig) -> Any:
        """The autoencoder before training, with the forward pass of training."""

    @abstractmethod
    def _perceptual_pairs(self, decoded: Tensor, image: Tensor, random: BatchRandom) -> list[tuple[Tensor, Tensor]]:
        """Pairs of decoded and original slices (B, 1, H, W) for the perceptual distance."""

    @abstractmethod
    def _to_slices(self, images: Tensor) -> np.ndarray:
        """Slices (N, H, W) of images or volumes (B, C, …), for metrics and figures."""

    @property
    def modules(self) -> Mapping[str, Any]:
        """The autoencoder, and the discriminator if there is one."""
        return {"vae": self.vae} | ({"discriminator": self.discriminator} if self.discriminator else {})

    def collate(self, items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Images (B, C, H, W), or volumes (B, C, X, Y, Z), in [0, 1]."""
        return {"image": torch.stack([item["image"] for item in items])}

    def loss(
        self, modules: Mapping[str, nn.Module], batch: dict[str, Tensor], random: BatchRandom
    ) -> dict[str, Tensor]:
        """The weighted sum of the terms, and each term without its weight."""
        image = self._flip(batch["image"], random)
        if self.config.crop_size:
            image = random_crop(image, self.config.crop_size, random)
        decoded, divergence = modules["vae"](2 * image - 1, random.randn(*self._latent_shape(image)).to(image))
        decoded = (decoded.float() + 1) / 2
        terms = {"error": (decoded - image).abs().mean(), "kl": divergence.mean() / image[0].numel()}
        total = terms["error"] + self.config.kl_weight * terms["kl"]
        if self.perceptual is not None:
            distance = self.perceptual.to(image.device)
            pairs = self._perceptual_pairs(decoded, image, random)
            terms["perceptual"] = torch.stack([distance(*pair) for pair in pairs]).mean()
            total = total + self.config.perceptual_weight * terms["perceptual"]
        if "discriminator" in modules:
            generator_loss, terms["discriminator"] = _adversarial_losses(modules["discriminator"], decoded, image)
            total = total + self.config.adversarial_weight * generator_loss + terms["discriminator"]
        return {"loss": total, **terms}

    def validate(self, modules: Mapping[str, Any], step: int) -> Validation:
        """The mean absolute error of test images, and a figure of them and their reconstructions."""
        images = torch.from_numpy(images_of(self._test_rows(NUM_FIGURE)))
        decoded = reconstruct(modules["vae"], images)
        rows = {"image": self._to_slices(images), "decoded": self._to_slices(decoded)}
        error = float(np.abs(rows["image"] - rows["decoded"]).mean())
        return Validation({"error": error}, {"decoded": panel(rows, ranges=dict.fromkeys(rows, (0.0, 1.0)))})

    @torch.no_grad()
    def build_pipeline(self, modules: Mapping[str, Any]) -> AutoencoderKL | MonaiAutoencoderKL:
        """The autoencoder alone, with its scaling factor."""
        trained = modules["vae"]
        if self.config.save_in_fp16:
            round_to_fp16(trained)
        vae = to_published(trained)
        if self.config.freeze_encoder:
            return vae
        train = self.splits["train"]
        chosen = torch.linspace(0, len(train) - 1, min(self.num_scale_images, len(train))).long()
        images = torch.from_numpy(images_of(train.select(chosen.tolist())))
        latents = torch.cat(
            [vae.encode((2 * batch - 1).to(vae.device)).latent_dist.mean for batch in images.split(BATCH)]
        )
        vae.register_to_config(scaling_factor=round(float(1 / latents.std()), 5))
        return vae

    def save(self, pipeline: ModelMixin, folder: Path) -> None:
        """Save the autoencoder for the `from_pretrained` of its class."""
        pipeline.save_pretrained(folder)

    def evaluate(self, pipeline: AutoencoderKL | MonaiAutoencoderKL, seed: int = 0) -> Report:
        """Metrics and figures of reconstructed test images."""
        rows = self._test_rows(NUM_EVALUATED)
        images = torch.from_numpy(images_of(rows))
        return evaluate_autoencoder(
            self._to_slices(images),
            self._to_slices(reconstruct(pipeline, images)),
            np.repeat(rows["subject"], len(self._to_slices(images[:1]))).tolist(),
            dataset=f"{self.dataset_name}, test subjects",
            seed=seed,
        )

    def _build_discriminator(self) -> PatchDiscriminator:
        channels = self.vae.config["in_channels"]
        width = self.config.discriminator_channels
        return PatchDiscriminator(self.spatial_dims, width, in_channels=channels, num_layers_d=2, norm="INSTANCE")

    def _flip(self, image: Tensor, random: BatchRandom) -> Tensor:
        """Half of the images or volumes, flipped from left to right."""
        flip = (random.rand(len(image), *(1,) * (image.ndim - 1)) < 0.5).to(image.device)
        return torch.where(flip, image.flip(self.left_right_axis), image)

    def _latent_shape(self, image: Tensor) -> tuple[int, ...]:
        """Shape of the latents of images or volumes."""
        return len(image), self.vae.config["latent_channels"], *(side // self.factor for side in image.shape[2:])

    def _test_rows(self, count: int) -> datasets.Dataset:
        return self.splits["test"].select(range(min(count, len(self.splits["test"]))))


def _adversarial_losses(discriminator: nn.Module, decoded: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """Losses of the autoencoder and of the discriminator; the gradient of each reaches only its own network."""
    bare = extract_model_from_parallel(discriminator)
    fixed = {name: weight.detach() for name, weight in bare.named_parameters()}
    generator_loss = (functional_call(bare, fixed, (decoded,))[-1] - 1).square().mean()
    real, fake = discriminator(torch.cat([image, decoded.detach()]))[-1].chunk(2)
    return generator_loss, ((real - 1).square().mean() + fake.square().mean()) / 2
