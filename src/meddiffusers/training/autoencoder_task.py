"""The learning problem of an `AutoencoderKL`, whose latents a diffusion model works on, for the engine.

Loss = |x − x̂| + w_p · perceptual + β · KL + w_a · (D(x̂) − 1)² for the autoencoder, ½ ((D(x) − 1)² + D(x̂)²) for
the discriminator D of patches, both in one step (Rombach et al. 2022, section 3.1; Mao et al. 2017 for the squares):

| symbol | setting |
|---|---|
| w_p | `perceptual_weight` |
| β | `kl_weight`, of the divergence summed over a latent picture, over the number of pixels |
| w_a | `adversarial_weight`; 0: no discriminator |

What the latents' standard deviation is, measured on training pictures, is stored as `scaling_factor`. With
`freeze_encoder` latents and their factor stay as they are, so that a diffusion model of them serves on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import datasets
import numpy as np
import torch
from accelerate.utils import extract_model_from_parallel
from diffusers import AutoencoderKL
from monai.networks.nets import PatchDiscriminator
from torch import Tensor, nn
from torch.func import functional_call

from meddiffusers.evaluation.autoencoder_report import evaluate_autoencoder
from meddiffusers.evaluation.panels import panel
from meddiffusers.evaluation.report import Report
from meddiffusers.training.augmentation import cropped, mirrored
from meddiffusers.training.fields import Range, check_fields, list_setting, setting
from meddiffusers.training.perceptual import PerceptualDistance
from meddiffusers.training.randomness import BatchRandom
from meddiffusers.training.task import Validation
from meddiffusers.training.text_data import TextDataConfig, TextImages, load_text_data, pictures_of
from meddiffusers.training.unets import round_to_half

SHOWN, EVALUATED, BATCH = 8, 256, 32


@dataclass
class AutoencoderConfig:
    """Which autoencoder, and how it learns."""

    pretrained_model_name_or_path: str | None = setting(None, "Folder or repository of an AutoencoderKL to start from.")
    subfolder: str | None = setting(None, "Where in it the autoencoder is, such as vae.")
    freeze_encoder: bool = setting(False, "Train its decoder alone, with latents as they are.")
    latent_channels: int = setting(4, "Channels of a latent picture.")
    block_out_channels: list[int] = list_setting([32, 64, 128], "Channels of the levels, each half the size.")
    layers_per_block: int = setting(1, "Residual blocks of a level.")
    norm_num_groups: int = setting(16, "Groups of the normalisation.")
    mid_block_attention: bool = setting(False, "Attention in the middle.")
    patch_size: int = setting(1, "Of volumes: voxels of a side that are channels to the network, which is then faster.")
    crop_size: int | None = setting(
        None, "Learn from squares or cubes of this side, cut at random; else from the whole."
    )
    kl_weight: float = setting(1e-6, "β, of the divergence of the latents from a normal distribution.")
    perceptual_weight: float = setting(0.1, "Of the difference of an image network's features.")
    adversarial_weight: float = setting(0.0, "Of a discriminator of patches; 0: none.")
    discriminator_channels: int = setting(32, "Of its first layer.")
    half_weights: bool = setting(False, "Round the trained weights to what half precision stores.")

    def __post_init__(self) -> None:
        check_fields(self, _RANGES)
        if self.freeze_encoder and not self.pretrained_model_name_or_path:
            raise ValueError(
                "freeze_encoder without pretrained_model_name_or_path: a new encoder has learnt nothing yet. Name the "
                "autoencoder to go on with."
            )


_COUNT, _WEIGHT = Range(1), Range(0)
_RANGES = {
    "latent_channels": _COUNT,
    "layers_per_block": _COUNT,
    "norm_num_groups": _COUNT,
    "discriminator_channels": _COUNT,
    "patch_size": _COUNT,
    "crop_size": _COUNT,
    "kl_weight": _WEIGHT,
    "perceptual_weight": _WEIGHT,
    "adversarial_weight": _WEIGHT,
}


class TrainedAutoencoder(AutoencoderKL):
    """Its forward pass does all that training needs, so that processes exchange the gradients of all weights."""

    encode: Any  # of diffusers, where type checkers do not see them
    decode: Any

    def forward(self, sample: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Decoded pictures and the divergence (B,), of pictures in [-1, 1] and unit noise of the latents' shape."""
        posterior = self.encode(sample).latent_dist
        return self.decode(posterior.mean + posterior.std * noise).sample, posterior.kl()


class AutoencoderTask:
    """Builds the networks and their data, unless these are given as `splits`.

    Raises:
        ValueError: a repository whose autoencoder has another number of channels than 1.
    """

    def __init__(
        self,
        data: TextDataConfig,
        config: AutoencoderConfig,
        splits: Mapping[str, datasets.Dataset] | None = None,
    ) -> None:
        self.config = config
        self.splits = splits or self._load(data)
        self.train_dataset = TextImages(self.splits["train"])
        self.dataset_name = Path(data.dataset_name).name  # a folder's place is nobody's business
        self.vae: Any = self._first(data, config)
        if (config.crop_size or 0) % self._factor:
            raise ValueError(f"crop_size={config.crop_size}; expected a multiple of {self._factor}, a latent's pixels.")
        if config.freeze_encoder:
            for name, part in self.vae.named_children():
                part.requires_grad_(not name.startswith(("encoder", "quant_conv")))  # what makes latents of pictures
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
        """Pictures (B, 1, H, W), or volumes (B, C, X, Y, Z), in [0, 1]."""
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
        """Test pictures, and what comes back of them."""
        images = pictures_of(self.splits["test"].select(range(min(SHOWN, len(self.splits["test"])))))
        decoded = reconstructed(modules["vae"], images)
        rows = {"picture": self._flat(images), "decoded": self._flat(decoded)}
        error = float(np.abs(rows["picture"] - rows["decoded"]).mean())
        return Validation({"error": error}, {"decoded": panel(rows, ranges=dict.fromkeys(rows, (0.0, 1.0)))})

    @torch.no_grad()
    def build_pipeline(self, modules: Mapping[str, nn.Module]) -> Any:
        """The autoencoder alone, with its scaling factor."""
        trained: Any = modules["vae"]
        if self.config.half_weights:
            round_to_half(trained)
        vae = self.published.from_config(trained.config)
        vae.load_state_dict(trained.state_dict())
        vae = vae.to(trained.device).eval()
        if self.config.freeze_encoder:
            return vae
        chosen = torch.linspace(0, len(self.splits["train"]) - 1, min(self.measured, len(self.splits["train"]))).long()
        images = pictures_of(self.splits["train"].select(chosen.tolist()))
        latents = torch.cat(
            [vae.encode((2 * part - 1).to(vae.device)).latent_dist.mean for part in images.split(BATCH)]
        )
        vae.register_to_config(scaling_factor=round(float(1 / latents.std()), 5))
        return vae

    def save(self, pipeline: Any, folder: Path) -> None:
        """As the `from_pretrained` of its class reads it."""
        pipeline.save_pretrained(folder)

    def evaluate(self, pipeline: Any, seed: int = 0) -> Report:
        """Figures and pictures of test pictures that went through it."""
        rows = self.splits["test"].select(range(min(EVALUATED, len(self.splits["test"]))))
        images = pictures_of(rows)
        return evaluate_autoencoder(
            self._flat(images),
            self._flat(reconstructed(pipeline, images)),
            np.repeat(rows["subject"], len(self._flat(images[:1]))).tolist(),
            dataset=f"{self.dataset_name}, test subjects",
            seed=seed,
        )

    # What is otherwise for volumes

    dims: ClassVar[int] = 2
    published: ClassVar[Any] = AutoencoderKL
    measured: ClassVar[int] = 512  # training pictures whose latents give the scaling factor

    def _load(self, data: Any) -> datasets.DatasetDict:
        return load_text_data(data)

    def _first(self, data: Any, config: AutoencoderConfig) -> Any:
        return first_autoencoder(data, config)

    def _mirrored(self, image: Tensor, random: BatchRandom) -> Tensor:
        return mirrored(image, image, random)[0]

    def _seen(self, decoded: Tensor, image: Tensor, random: BatchRandom) -> list[tuple[Tensor, Tensor]]:
        """Pairs of pictures (B, 1, H, W) that are compared by their looks."""
        return [(decoded, image)]

    def _flat(self, images: Tensor) -> np.ndarray:
        """As pictures (N, H, W) to measure and to look at."""
        return images[:, 0].numpy()

    def _latent_shape(self, image: Tensor) -> tuple[int, ...]:
        """Of the latents of pictures."""
        return len(image), self.vae.config["latent_channels"], *(side // self._factor for side in image.shape[2:])

    @property
    def _factor(self) -> int:
        """Pixels of a side for each of a latent."""
        config = self.vae.config
        levels = len(config.get("channels") or config["block_out_channels"])
        return config.get("patch_size", 1) * 2 ** (levels - 1)


@torch.no_grad()
def reconstructed(vae: Any, images: Tensor) -> Tensor:
    """What comes back of pictures or volumes (N, C, …) in [0, 1], from the means of their latents."""
    parts = [
        vae.decode(vae.encode((2 * part - 1).to(vae.device)).latent_dist.mean).sample for part in images.split(BATCH)
    ]
    return ((torch.cat(parts).float().cpu() + 1) / 2).clamp(0, 1)


def _adversarial(discriminator: nn.Module, decoded: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """What the autoencoder pays for being found out, and the discriminator's error: each with gradients of its own."""
    bare = extract_model_from_parallel(discriminator)
    fixed = {name: weight.detach() for name, weight in bare.named_parameters()}
    fooled = (functional_call(bare, fixed, (decoded,))[-1] - 1).square().mean()
    real, drawn = discriminator(torch.cat([image, decoded.detach()]))[-1].chunk(2)
    return fooled, ((real - 1).square().mean() + drawn.square().mean()) / 2


def first_autoencoder(data: Any, config: AutoencoderConfig, channels: int = 1) -> TrainedAutoencoder:
    """New, or a repository's, for pictures of so many channels and `data.resolution` pixels."""
    if config.pretrained_model_name_or_path:
        vae = TrainedAutoencoder.from_pretrained(config.pretrained_model_name_or_path, subfolder=config.subfolder or "")
        if vae.config["in_channels"] != channels:
            raise ValueError(
                f"{config.pretrained_model_name_or_path} is for pictures of {vae.config['in_channels']} channels; "
                f"expected {channels}."
            )
        return vae
    if config.patch_size != 1:
        raise ValueError(f"patch_size={config.patch_size}; the autoencoder of pictures has none. Leave it out.")
    levels = len(config.block_out_channels)
    return TrainedAutoencoder(
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=tuple(config.block_out_channels),
        layers_per_block=config.layers_per_block,
        latent_channels=config.latent_channels,
        norm_num_groups=config.norm_num_groups,
        mid_block_add_attention=config.mid_block_attention,
        sample_size=data.resolution,
    )
