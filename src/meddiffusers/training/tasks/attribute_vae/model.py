"""Settings of an `AttributeVAE` and of its loss, and the network before training."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from meddiffusers.datasets.attribute_config import AttributeDataConfig
from meddiffusers.models.attribute_vae import AttributeVAE
from meddiffusers.utils.settings import list_setting, setting

FROM_DATA = ("sample_size", "attributes")
FROM_MODEL = ("in_channels", "block_out_channels", "hidden_dim", "latent_dim", "likelihood", "value_range")


@dataclass
class AttributeVAEConfig:
    """Settings of the network and of the loss."""

    pretrained_model_name_or_path: str | None = setting(None, "Repository or folder of the model to start from.")
    in_channels: int = setting(1, "Number of image channels, or of labels.")
    block_out_channels: list[int] = list_setting([32, 64], "Number of channels of each stride-2 block.")
    hidden_dim: int = setting(256, "Width of the fully connected layers.")
    latent_dim: int = setting(16, "Number of latent dimensions.")
    likelihood: str = setting("bernoulli", "Distribution of a pixel: bernoulli, gaussian or categorical.")
    value_range: list[float] = list_setting([0.0, 1.0], "Lowest and highest intensity of the images.")

    reconstruction_weight: float = setting(1.0, "Weight of −log p(x|z), summed over the pixels.")
    dice_weight: float = setting(0.0, "Weight of the Dice loss, for label maps.")
    kl_weight: float = setting(1.0, "Weight β of the KL divergence.")
    ordering_weight: float = setting(10.0, "Weight γ of the ordering loss.")
    ordering_sharpness: float = setting(10.0, "Slope δ of the tanh in the ordering loss.")
    regression_weight: float = setting(0.0, "Weight γ_r of the squared error to the standardised attribute.")
    consistency_weight: float = setting(0.0, "Weight γ_c of the error of an edited attribute in the decoded image.")
    consistency_attributes: list[str] = list_setting(
        [], "Attributes that the consistency loss edits, each as often as it is listed; by default all of them."
    )
    max_shift: int = setting(0, "Largest random shift of the training images in pixels.")
    save_in_fp16: bool = setting(False, "Round the trained weights to half precision before saving.")


def build_attribute_vae(data: AttributeDataConfig, config: AttributeVAEConfig) -> AttributeVAE:
    """The network before training, new or from a repository.

    Raises:
        ValueError: The repository's network has another architecture than the configured one.
    """
    architecture: dict[str, Any] = {name: getattr(config, name) for name in FROM_MODEL}
    architecture |= {name: getattr(data, name) for name in FROM_DATA}
    if config.pretrained_model_name_or_path is None:
        return AttributeVAE(**architecture)
    vae = AttributeVAE.from_pretrained(config.pretrained_model_name_or_path, subfolder="vae")
    theirs = json.loads(vae.to_json_string())
    listed = [f"{name} {theirs[name]!r} (here {own!r})" for name, own in architecture.items() if theirs[name] != own]
    if listed:
        raise ValueError(
            f"{config.pretrained_model_name_or_path} has {', '.join(listed)}. Configure the same to start from it."
        )
    return vae
