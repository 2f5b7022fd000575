"""The learning problem of an autoencoder, whose latents a diffusion model works on, for the engine.

Loss = |x − x̂| + w_p · perceptual + β · KL + w_a · (D(x̂) − 1)² for the autoencoder, ½ ((D(x) − 1)² + D(x̂)²) for
the discriminator D of patches, both in one step (Rombach et al. 2022, section 3.1; Mao et al. 2017 for the squares):

| symbol | setting |
|---|---|
| w_p | `perceptual_weight` |
| β | `kl_weight`, of the divergence summed over a latent image, over the number of pixels |
| w_a | `adversarial_weight`; 0: no discriminator |

What the latents' standard deviation is, measured on training images, is stored as `scaling_factor`. With
`freeze_encoder` latents and their factor stay as they are, so that a diffusion model of them serves on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import datasets
import numpy as np
import torch
from accelerate.utils import extract_model_from_parallel
from monai.networks.nets import PatchDiscriminator
from torch import Tensor, nn
from torch.func import functional_call

from meddiffusers.datasets.captioned_config import CaptionedDataConfig, CaptionedImages, load_captioned_data
from meddiffusers.datasets.rows import images_of
from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.evaluation.generation.autoencoder import evaluate_autoencoder, reconstruct
from meddiffusers.evaluation.report import Report
from meddiffusers.training.engine.randomness import BatchRandom
from meddiffusers.training.engine.task import Validation
from meddiffusers.training.losses.augmentation import cropped, mirrored
from meddiffusers.training.losses.perceptual import PerceptualDistance
from meddiffusers.training.tasks.autoencoder.model import AutoencoderConfig, first_autoencoder, latent_factor, published
from meddiffusers.training.tasks.unets import round_to_half

SHOWN, EVALUATED, BATCH = 8, 256, 32


class AutoencoderTask:
    """Builds the networks and their data, unless these are given as `splits`.

    Raises:
        ValueError: a repository whose autoencoder is not of images with one channel; patches.
    """

    def __init__(
        self,
        data: CaptionedDataConfig,
        config: AutoencoderConfig,
        splits: Mapping[str, datasets.Dataset] | None = None,
    ) -> None:
        self.config = config
        self.splits = splits or self._load(data)
        self.train_dataset = CaptionedImages(self.splits["train"])
        self.dataset_name = Path(data.dataset_name).name  # a folder's place is nobody's business
        self.vae: Any = self._first(data, config)
        self.factor = latent_factor(self.vae)
        if (config.crop_size or 0) % self.factor:
            raise ValueError(f"crop_size={config.crop_size}; expected a multiple of {self.factor}, a latent's pixels.")
        if config.freeze_encoder:
            for name, part in self.vae.named_children():
                part.requires_grad_(not name.startswith(("encoder", "quant_conv")))  # what makes latents of images
        self.perceptual = PerceptualDistance() if config.perceptual_weight else None
        self.discriminator = (
            PatchDiscriminator(
                self.dims,
                config.discriminator_channels,
                in_channels=self.vae.config["in_channels"],
                num_layers_d=2,
                norm="INSTANCE",
            )
            if config.adversarial_weight
            else None
        )

    @property
    def modules(self) -> Mapping[str, Any]:
        """The autoencoder, and its adversary if there is one."""
        return {"vae": self.vae} | ({"discriminator": self.discriminator} if self.discriminator else {})

    def collate(self, items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Images (B, 1, H, W), or volumes (B, C, X, Y, Z), in [0, 1]."""
        return {"image": torch.stack([item["image"] for item in items])}

    def loss(
        self, modules: Mapping[str, nn.Module], batch: dict[str, Tensor], random: BatchRandom
    ) -> dict[str, Tensor]:
        """The terms above."""
        image = self._mirrored(batch["image"], random)
        if self.config.crop_size:
            image = cropped(image, self.config.crop_size, random)
        decoded, divergence = modules["vae"](2 * image - 1, random.randn(*self._latent_shape(image)).to(image))
        decoded = (decoded.float() + 1) / 2
        terms = {"error": (decoded - image).abs().mean(), "kl": divergence.mean() / image[0].numel()}
        total = terms["error"] + self.config.kl_weight * terms["kl"]
        if self.perceptual is not None:
            seen = self._seen(decoded, image, random)
            distance = self.perceptual.to(image.device)
            terms["perceptual"] = torch.stack([distance(*pair) for pair in seen]).mean()
            total = total + self.config.perceptual_weight * terms["perceptual"]
        if "discriminator" in modules:
            fooled, terms["discriminator"] = _adversarial(modules["discriminator"], decoded, image)
            total = total + self.config.adversarial_weight * fooled + terms["discriminator"]
        return {"loss": total, **terms}

    def validate(self, modules: Mapping[str, nn.Module], step: int) -> Validation:
        """Test images, and what comes back of them."""
        images = torch.from_numpy(images_of(self.splits["test"].select(range(min(SHOWN, len(self.splits["test"]))))))
        decoded = reconstruct(modules["vae"], images)
        rows = {"image": self._flat(images), "decoded": self._flat(decoded)}
        error = float(np.abs(rows["image"] - rows["decoded"]).mean())
        return Validation({"error": error}, {"decoded": panel(rows, ranges=dict.fromkeys(rows, (0.0, 1.0)))})

    @torch.no_grad()
    def build_pipeline(self, modules: Mapping[str, nn.Module]) -> Any:
        """The autoencoder alone, with its scaling factor."""
        trained: Any = modules["vae"]
        if self.config.save_in_fp16:
            round_to_half(trained)
        vae = published(trained)
        if self.config.freeze_encoder:
            return vae
        chosen = torch.linspace(0, len(self.splits["train"]) - 1, min(self.measured, len(self.splits["train"]))).long()
        images = torch.from_numpy(images_of(self.splits["train"].select(chosen.tolist())))
        latents = torch.cat(
            [vae.encode((2 * part - 1).to(vae.device)).latent_dist.mean for part in images.split(BATCH)]
        )
        vae.register_to_config(scaling_factor=round(float(1 / latents.std()), 5))
        return vae

    def save(self, pipeline: Any, folder: Path) -> None:
        """As the `from_pretrained` of its class reads it."""
        pipeline.save_pretrained(folder)

    def evaluate(self, pipeline: Any, seed: int = 0) -> Report:
        """Metrics and images of test images that went through it."""
        rows = self.splits["test"].select(range(min(EVALUATED, len(self.splits["test"]))))
        images = torch.from_numpy(images_of(rows))
        return evaluate_autoencoder(
            self._flat(images),
            self._flat(reconstruct(pipeline, images)),
            np.repeat(rows["subject"], len(self._flat(images[:1]))).tolist(),
            dataset=f"{self.dataset_name}, test subjects",
            seed=seed,
        )

    # What is otherwise for volumes

    dims: ClassVar[int] = 2
    measured: ClassVar[int] = 512  # training images whose latents give the scaling factor

    def _load(self, data: Any) -> datasets.DatasetDict:
        return load_captioned_data(data)

    def _first(self, data: Any, config: AutoencoderConfig) -> Any:
        if config.patch_size != 1:
            raise ValueError(
                f"patch_size={config.patch_size}; the models of these images take diffusers' AutoencoderKL, which "
                "has none. Leave it out."
            )
        return first_autoencoder(config, resolution=data.resolution)

    def _mirrored(self, image: Tensor, random: BatchRandom) -> Tensor:
        return mirrored(image, image, random)[0]

    def _seen(self, decoded: Tensor, image: Tensor, random: BatchRandom) -> list[tuple[Tensor, Tensor]]:
        """Pairs of images (B, 1, H, W) that are compared by their looks."""
        return [(decoded, image)]

    def _flat(self, images: Tensor) -> np.ndarray:
        """As images (N, H, W) to measure and to look at."""
        return images[:, 0].numpy()

    def _latent_shape(self, image: Tensor) -> tuple[int, ...]:
        """Of the latents of images."""
        return len(image), self.vae.config["latent_channels"], *(side // self.factor for side in image.shape[2:])


def _adversarial(discriminator: nn.Module, decoded: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """What the autoencoder pays for being found out, and the discriminator's error: each with gradients of its own."""
    bare = extract_model_from_parallel(discriminator)
    fixed = {name: weight.detach() for name, weight in bare.named_parameters()}
    fooled = (functional_call(bare, fixed, (decoded,))[-1] - 1).square().mean()
    real, drawn = discriminator(torch.cat([image, decoded.detach()]))[-1].chunk(2)
    return fooled, ((real - 1).square().mean() + drawn.square().mean()) / 2
