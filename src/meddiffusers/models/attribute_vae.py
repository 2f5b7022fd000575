"""Variational autoencoder whose first latent dimensions follow measured attributes (AR-VAE; VAE without them).

An encoder gives q(z | x) = N(μ(x), diag σ²(x)) with z of K dimensions, a decoder the parameters of p(x | z)
(Kingma & Welling 2014). Latent dimension r < A belongs to the attribute `attributes[r]`; the training
loss ties them (Pati & Lerch 2020, eq. 2-4). With `attributes=[]` this is the plain VAE.

| symbol | here | shape |
|---|---|---|
| x | `sample` | (B, C, H, W); label maps are one-hot, C = number of labels |
| μ, log σ² | `latent_dist.mean`, `latent_dist.logvar` | (B, K) |
| z | `latents` | (B, K) |
| parameters of p(x ∣ z) | `decode(z).sample` | (B, C, H, W): logits (bernoulli, categorical) or the mean (gaussian) |
| E[x ∣ z] | `expectation(parameters)` | (B, C, H, W), in `value_range`; probabilities if categorical |
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn

PUBLISHED_AS = "meddiffusers_attribute_vae_v1"  # library name in model_index.json and file name in a repository
LIKELIHOODS = ("bernoulli", "gaussian", "categorical")


@dataclass
class AttributeVAEOutput(BaseOutput):
    """Output of `AttributeVAE`.

    Accelerate rebuilds outputs from dictionaries in mixed precision, so all fields but the first need defaults.

    Args:
        sample: Parameters of p(x | z), (B, C, H, W).
        latents: z, (B, K).
        latent_dist: q(z | x); None if latents were given.
    """

    sample: torch.Tensor
    latents: torch.Tensor = None  # type: ignore[assignment]
    latent_dist: DiagonalGaussianDistribution | None = None


class AttributeVAE(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Convolutional VAE with one latent dimension for each attribute.

    Args:
        in_channels: C; with likelihood="categorical" the number of labels.
        sample_size: Side length, or (height, width), in pixels; divisible by the stride 2 ** len(block_out_channels).
        block_out_channels: Channels of each stride-2 convolution.
        hidden_dim: Width of the dense layer between feature map and latents.
        latent_dim: K.
        attributes: Names of the attributes; attribute r belongs to latent dimension r.
        likelihood: "bernoulli" (values in [0, 1]), "gaussian" (unit variance) or "categorical" (label maps).
        value_range: Lowest and highest intensity of an image; (0, 1) with "bernoulli".
        calibration: For each attribute `{"unit": str, "values": [...], "latents": [...]}`, both lists increasing: the
            latent value at which a decoded image has the attribute value, linear in between.
        latent_moments: `{"mean": (K), "covariance": (K, K)}` of the latents of training images. Attributes that are
            correlated in the data are correlated in the latents, so images sampled from this Gaussian are more
            realistic than from N(0, I).

    Raises:
        ValueError: A configuration that cannot work, with what to change.

    Example:
        >>> vae = AttributeVAE(sample_size=28, latent_dim=16, attributes=["area", "slant"])
        >>> latents = vae.encode(torch.rand(1, 1, 28, 28)).latent_dist.mode()
        >>> vae.expectation(vae.decode(latents).sample).shape
        torch.Size([1, 1, 28, 28])
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 1,
        sample_size: int | Sequence[int] = 28,
        block_out_channels: Sequence[int] = (32, 64),
        hidden_dim: int = 256,
        latent_dim: int = 16,
        attributes: Sequence[str] = (),
        likelihood: str = "bernoulli",
        value_range: Sequence[float] = (0.0, 1.0),
        calibration: dict[str, dict[str, Any]] | None = None,
        latent_moments: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.__module__ = PUBLISHED_AS  # what diffusers writes as this component's library
        _check_configuration(self.config)
        height, width = self.image_size
        stride = 2 ** len(block_out_channels)

        widths = [in_channels, *block_out_channels]
        bottom = (widths[-1], height // stride, width // stride)
        features = bottom[0] * bottom[1] * bottom[2]
        down: list[nn.Module] = []
        for before, after in pairwise(widths):
            down += [nn.Conv2d(before, after, kernel_size=4, stride=2, padding=1), nn.SiLU()]
        up: list[nn.Module] = []
        for before, after in pairwise(reversed(widths)):
            up += [nn.SiLU(), nn.ConvTranspose2d(before, after, kernel_size=4, stride=2, padding=1)]
        self.encoder = nn.Sequential(
            *down, nn.Flatten(), nn.Linear(features, hidden_dim), nn.SiLU(), nn.Linear(hidden_dim, 2 * latent_dim)
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, hidden_dim),
            nn.SiLU(),
            nn.Linear(hidden_dim, features),
            nn.Unflatten(1, bottom),
            *up,
        )

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        size = self.config["sample_size"]
        return (size, size) if isinstance(size, int) else (size[0], size[1])

    @apply_forward_hook  # so that CPU offload moves the weights to the device, as for `forward`
    def encode(
        self, x: torch.Tensor, return_dict: bool = True
    ) -> AutoencoderKLOutput | tuple[DiagonalGaussianDistribution]:
        """Return q(z | x) for images (B, C, H, W); its `mode()` and `sample(generator)` are (B, K)."""
        posterior = DiagonalGaussianDistribution(self.encoder(x))
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    @apply_forward_hook
    def decode(self, z: torch.Tensor, return_dict: bool = True) -> DecoderOutput | tuple[torch.Tensor]:
        """Return the parameters of p(x | z), (B, C, H, W), for latents (B, K); `expectation` makes images of them."""
        parameters = self.decoder(z)
        return DecoderOutput(sample=parameters) if return_dict else (parameters,)

    def expectation(self, parameters: torch.Tensor) -> torch.Tensor:
        """Return images (B, C, H, W) in `value_range`, or label probabilities, from the parameters of p(x | z)."""
        if self.config["likelihood"] == "bernoulli":
            return parameters.sigmoid()
        if self.config["likelihood"] == "categorical":
            return parameters.softmax(dim=1)
        low, high = self.config["value_range"]
        return parameters.clamp(low, high)

    def forward(
        self,
        sample: torch.Tensor | None = None,
        sample_posterior: bool = False,
        noise: torch.Tensor | None = None,
        latents: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
        return_dict: bool = True,
    ) -> AttributeVAEOutput | tuple[torch.Tensor, torch.Tensor, DiagonalGaussianDistribution | None]:
        """Encode images and decode their latents.

        Args:
            sample: Images (B, C, H, W) in `value_range`, label maps one-hot.
            sample_posterior: Sample z from the posterior rather than taking its mean.
            noise: Noise (B, K), with which z is μ + σ·noise.
            latents: Latents (B, K) to decode instead of images, as `decode` does, for models that are wrapped.
            generator: Generator of the posterior's sample.
            return_dict: Return an output object rather than a tuple.

        Returns:
            An `AttributeVAEOutput`, or a tuple of its fields.
        """
        posterior = None
        if latents is None:
            posterior = DiagonalGaussianDistribution(self.encoder(sample))
            if noise is not None:
                latents = posterior.mean + posterior.std * noise
            else:
                latents = posterior.sample(generator) if sample_posterior else posterior.mode()
        parameters = self.decoder(latents)
        if not return_dict:
            return parameters, latents, posterior
        return AttributeVAEOutput(sample=parameters, latents=latents, latent_dist=posterior)

    def from_standard_normal(self, noise: torch.Tensor) -> torch.Tensor:
        """Transform noise (B, K) of N(0, I) to latents with the `latent_moments`; without moments it is returned."""
        moments = self.config["latent_moments"]
        if not moments:
            return noise
        mean = torch.tensor(moments["mean"], device=noise.device, dtype=torch.float32)
        factor = torch.linalg.cholesky(torch.tensor(moments["covariance"], dtype=torch.float64)).to(mean)
        return (mean + noise.float() @ factor.T).to(noise.dtype)

    def attribute_to_latent(self, name: str, value: float) -> float:
        """Return the latent value of dimension `attributes.index(name)` for an attribute value.

        Args:
            name: Name of the attribute.
            value: Value in the attribute's own unit.

        Raises:
            ValueError: Unknown attribute, no calibration, or a value outside the calibrated range.
        """
        curve = self.calibration_of(name)
        values, latents = curve["values"], curve["latents"]
        if not values[0] <= value <= values[-1]:
            raise ValueError(
                f"{name}={value:g} {curve['unit']} lies outside the calibrated range "
                f"[{values[0]:.4g}, {values[-1]:.4g}] {curve['unit']}. Give a value inside it."
            )
        return float(np.interp(value, values, latents))

    def latent_to_attribute(self, name: str, latent: float) -> float:
        """Invert `attribute_to_latent`; latents outside the calibrated range give the value at its end."""
        curve = self.calibration_of(name)
        return float(np.interp(latent, curve["latents"], curve["values"]))

    def calibration_of(self, name: str) -> dict[str, Any]:
        """Return the calibration of one attribute: {"unit", "values", "latents"}."""
        if name not in self.config["attributes"]:
            raise ValueError(
                f"This model has no attribute {name!r}. It has: {', '.join(self.config['attributes']) or 'none'}."
            )
        if name not in (self.config["calibration"] or {}):
            raise ValueError(
                f"Attribute {name!r} has no calibration, so values in its own unit are not defined. "
                "Calibrate the model after training, or work with latent values."
            )
        return self.config["calibration"][name]

    def to_json_string(self) -> str:
        """Return the configuration as JSON with sorted keys, without the path that it was loaded from."""
        config = json.loads(super().to_json_string())
        config.pop("_name_or_path", None)
        return json.dumps(config, indent=2, sort_keys=True) + "\n"

    def save_config(self, save_directory: str | PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write the configuration and this file, so that the repository opens without the package."""
        super().save_config(save_directory, push_to_hub=push_to_hub, **kwargs)
        shutil.copyfile(__file__, Path(save_directory, f"{PUBLISHED_AS}.py"))


def _check_configuration(config: Any) -> None:
    """Raise a ValueError for a configuration that cannot work."""
    if config["likelihood"] not in LIKELIHOODS:
        raise ValueError(f"likelihood={config['likelihood']!r} is unknown. Expected one of {', '.join(LIKELIHOODS)}.")
    size, stride = config["sample_size"], 2 ** len(config["block_out_channels"])
    sides = [size, size] if isinstance(size, int) else list(size)
    if len(sides) != 2 or any(side < 1 or side % stride for side in sides):
        raise ValueError(
            f"sample_size={size}: expected one side or (height, width), divisible by {stride}, the stride of "
            f"{len(config['block_out_channels'])} blocks. Pad or resize the images, or use fewer block_out_channels."
        )
    attributes = list(config["attributes"])
    if len(set(attributes)) != len(attributes) or len(attributes) > config["latent_dim"]:
        raise ValueError(
            f"{len(attributes)} attributes {attributes} do not fit {config['latent_dim']} latent dimensions: "
            "each needs a name and a dimension of its own. Remove doubles or raise latent_dim."
        )
    low, high = config["value_range"]
    if not low < high or (config["likelihood"] == "bernoulli" and (low, high) != (0, 1)):
        raise ValueError(
            f"value_range=({low}, {high}) does not fit likelihood={config['likelihood']!r}: the lower end must come "
            "first, and bernoulli needs (0, 1). Rescale the images or choose likelihood='gaussian'."
        )
    if config["likelihood"] == "categorical" and config["in_channels"] < 2:
        raise ValueError(
            f"likelihood='categorical' with in_channels={config['in_channels']}: in_channels is the number of labels, "
            "background included, so at least 2."
        )
    for name, curve in (config["calibration"] or {}).items():
        _check_calibration(name, curve, attributes)
    if config["latent_moments"]:
        k = config["latent_dim"]
        shapes = [np.shape(config["latent_moments"].get(key)) for key in ("mean", "covariance")]
        if shapes != [(k,), (k, k)]:
            raise ValueError(
                f"latent_moments has mean and covariance of shapes {shapes}, expected ({k},) and ({k}, {k})."
            )


def _check_calibration(name: str, curve: dict[str, Any], attributes: list[str]) -> None:
    if name not in attributes:
        raise ValueError(f"calibration of {name!r}, which is none of the attributes {attributes}. Remove it.")
    if set(curve) != {"unit", "values", "latents"}:
        raise ValueError(f"calibration of {name!r} has the keys {sorted(curve)}, expected unit, values and latents.")
    values, latents = np.asarray(curve["values"], float), np.asarray(curve["latents"], float)
    if values.shape != latents.shape or values.size < 2:
        raise ValueError(
            f"calibration of {name!r} has {values.size} values and {latents.size} latents, expected equally many, "
            "at least 2."
        )
    if not ((np.diff(values) > 0).all() and (np.diff(latents) > 0).all()):
        raise ValueError(f"calibration of {name!r} must increase in both 'values' and 'latents'. Sort and thin them.")
