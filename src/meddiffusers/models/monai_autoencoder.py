"""Autoencoder of pictures and volumes: MONAI's `AutoencoderKL` as a model of diffusers, decoded in tiles where large.

| symbol | here | shape |
|---|---|---|
| x | `sample` | (B, C, H, W) or (B, C, D, H, W), as `spatial_dims` says |
| μ, σ | `encode(x).latent_dist.mean`, `.std` | (B, `latent_channels`, …), each side 2^(levels − 1) times shorter |
| z | latents | the same |

Names and values of the weights are MONAI's own, and so are encoding and undivided decoding to the last bit (Pinaya et
al. 2022, "Brain imaging generation with latent diffusion models"). Latents times `scaling_factor` have unit variance.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders.peft import PeftAdapterMixin
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.torch_utils import randn_tensor
from monai.networks.nets import AutoencoderKL
from torch import Tensor

PUBLISHED_AS = "meddiffusers_monai_autoencoder_v1"  # library name in model_index.json and file name in a repository
OWN = ("self", "__class__", "scaling_factor", "tile_size", "tile_overlap")  # what MONAI's network does not take


@dataclass
class DiagonalGaussian:
    """N(`mean`, `std`²) of latents of any number of axes, each shaped (B, c, …)."""

    mean: Tensor
    std: Tensor

    def sample(self, generator: torch.Generator | list[torch.Generator] | None = None) -> Tensor:
        """Latents drawn from it."""
        return self.mean + self.std * randn_tensor(self.mean.shape, generator, self.mean.device, self.mean.dtype)

    def mode(self) -> Tensor:
        """The most likely latents."""
        return self.mean

    def kl(self) -> Tensor:
        """Divergence from N(0, 1), (B,)."""
        variance = self.std.square()
        return 0.5 * (self.mean.square() + variance - 1 - variance.log()).flatten(1).sum(dim=1)


class MonaiAutoencoderKL(AutoencoderKL, ModelMixin, ConfigMixin, PeftAdapterMixin):  # type: ignore[misc]
    """Autoencoder in two or three dimensions.

    Configuration: the arguments of MONAI's `AutoencoderKL`, with its names and meanings, and
        scaling_factor: one over the latents' standard deviation.
        tile_size: latents with a longer side are decoded in overlapping tiles of at most this side; None: never.
        tile_overlap: latents that neighbouring tiles share; across these one fades into the other.

    Raises:
        ValueError: an overlap that leaves nothing of a tile.
    """

    _supports_gradient_checkpointing = True
    _supports_group_offloading = False  # MONAI's convolutions cannot be sliced

    @register_to_config
    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 1,
        num_res_blocks: Sequence[int] | int = 1,
        channels: Sequence[int] = (32, 64, 64),
        attention_levels: Sequence[bool] = (False, False, False),
        latent_channels: int = 3,
        norm_num_groups: int = 32,
        norm_eps: float = 1e-6,
        with_encoder_nonlocal_attn: bool = False,
        with_decoder_nonlocal_attn: bool = False,
        use_convtranspose: bool = False,
        include_fc: bool = True,
        use_combined_linear: bool = False,
        use_flash_attention: bool = False,
        scaling_factor: float = 1.0,
        tile_size: int | None = None,
        tile_overlap: int = 4,
    ) -> None:
        settings = {name: value for name, value in locals().items() if name not in OWN}
        AutoencoderKL.__init__(self, **settings)
        self.__module__ = PUBLISHED_AS  # what diffusers writes as this component's library
        if tile_size is not None and not 0 <= tile_overlap < tile_size:
            raise ValueError(
                f"tile_size={tile_size} and tile_overlap={tile_overlap}: expected an overlap of 0 or more, and smaller "
                "than a tile."
            )

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether activations are computed twice rather than kept, as MONAI's `use_checkpoint` says."""
        return self.use_checkpoint

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, enable: bool) -> None:
        self.use_checkpoint = enable

    @property
    def scale_factor(self) -> int:
        """Voxels of a side for each of a latent."""
        return 2 ** (len(self.config["channels"]) - 1)

    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple[DiagonalGaussian]:  # type: ignore[override]
        """The latents' distribution, unscaled."""
        found = DiagonalGaussian(*AutoencoderKL.encode(self, x))
        return AutoencoderKLOutput(latent_dist=found) if return_dict else (found,)

    def decode(self, z: Tensor, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:  # type: ignore[override]
        """What unscaled latents show."""
        size = self.config["tile_size"]
        whole = size is None or max(z.shape[2:]) <= size
        decoded = AutoencoderKL.decode(self, z) if whole else self._decode_tiles(z, size)
        return DecoderOutput(sample=decoded) if return_dict else (decoded,)

    def forward(  # type: ignore[override]
        self,
        sample: Tensor,
        sample_posterior: bool = False,
        return_dict: bool = True,
        generator: torch.Generator | None = None,
    ) -> DecoderOutput | tuple[Tensor]:
        """What is left of pictures or volumes that went through the latents' mode, or a sample of them."""
        found = self.encode(sample, return_dict=False)[0]
        return self.decode(found.sample(generator) if sample_posterior else found.mode(), return_dict)

    def _decode_tiles(self, z: Tensor, size: int) -> Tensor:
        """Every tile decoded by itself, faded into its neighbours and put in its place."""
        overlap, factor = self.config["tile_overlap"], self.scale_factor
        cuts = [_cuts(length, size, overlap) for length in z.shape[2:]]
        shape = (len(z), self.config["out_channels"], *(factor * length for length in z.shape[2:]))
        total, weights = z.new_zeros(shape), z.new_zeros(1, 1, *shape[2:])
        for tile in itertools.product(*cuts):
            source: Any = (..., *tile)
            weight = z.new_ones(())
            for axis, (part, length) in enumerate(zip(tile, z.shape[2:], strict=True)):
                ramp = _ramp(part, length, factor, overlap).to(z)
                weight = weight * ramp.view(-1, *(1,) * (len(tile) - 1 - axis))
            place: Any = (..., *(slice(factor * part.start, factor * part.stop) for part in tile))
            total[place] += weight * AutoencoderKL.decode(self, z[source])
            weights[place] += weight
        return total.div_(weights)

    def to_json_string(self) -> str:
        """The configuration as JSON, without the folder it happened to be loaded from."""
        config = json.loads(super().to_json_string())
        config.pop("_name_or_path", None)
        return json.dumps(config, indent=2, sort_keys=True) + "\n"

    def save_config(self, save_directory: str | PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write the configuration and this file, so that the repository opens where the package is not installed."""
        super().save_config(save_directory, push_to_hub=push_to_hub, **kwargs)
        shutil.copyfile(__file__, Path(save_directory, f"{PUBLISHED_AS}.py"))


def _cuts(length: int, size: int, overlap: int) -> list[slice]:
    """As few parts of at most `size` as share `overlap` or more, spread evenly over the length."""
    if length <= size:
        return [slice(0, length)]
    count = -(-(length - overlap) // (size - overlap))
    starts = [round(number * (length - size) / (count - 1)) for number in range(count)]
    return [slice(start, start + size) for start in starts]


def _ramp(part: slice, length: int, factor: int, overlap: int) -> Tensor:
    """Weight of a tile along one axis, in voxels: 1, rising and falling over the overlap where a neighbour lies."""
    ramp = torch.ones(factor * (part.stop - part.start))
    width = factor * overlap
    slope = (torch.arange(width) + 0.5) / max(width, 1)
    if part.start > 0:
        ramp[:width] *= slope
    if part.stop < length:
        ramp[len(ramp) - width :] *= slope.flip(0)
    return ramp
