"""Autoencoder of images and volumes: MONAI's `AutoencoderKL` as a model of diffusers, decoded slab by slab if large.

| symbol | here | shape |
|---|---|---|
| x | `sample` | (B, C, H, W) or (B, C, D, H, W), as `spatial_dims` says |
| μ, σ | `encode(x).latent_dist.mean`, `.std` | (B, `latent_channels`, …), each side `scale_factor` times shorter |
| z | latents | the same |

Names and values of the weights are MONAI's own, and so are encoding and decoding (Pinaya et al. 2022, "Brain imaging
generation with latent diffusion models"). Latents times `scaling_factor` have unit variance. With `patch_size` above 1
the network sees the voxels of a patch as channels: layers of full size are what costs most.

Large volumes are decoded in slabs, with the very result of decoding them whole, up to rounding: a convolution of three
planes needs of its neighbours one plane on each side, and the statistics of a group normalisation are summed up over
all slabs before any is normalised. A slab is let go of as soon as the next layer has used it. So there are no seams,
and never more than two feature maps of full size at once.
"""

from __future__ import annotations

import json
import shutil
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders.peft import PeftAdapterMixin
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.torch_utils import randn_tensor
from monai.networks.nets import AutoencoderKL
from monai.networks.nets.autoencoderkl import AEKLResBlock
from torch import Tensor, nn

PUBLISHED_AS = "meddiffusers_monai_autoencoder_v1"  # library name in model_index.json and file name in a repository
OWN = ("self", "__class__", "patch_size", "scaling_factor", "slab_voxels")  # what MONAI's network does not take


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
        patch_size: voxels of a side that are channels to the network; C stays the number outside.
        scaling_factor: one over the latents' standard deviation.
        slab_voxels: feature maps of more voxels than this are computed in slabs of about so many, where no gradients
            are wanted; None: never.
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
        patch_size: int = 1,
        scaling_factor: float = 1.0,
        slab_voxels: int | None = 200_000,
    ) -> None:
        settings = {name: value for name, value in locals().items() if name not in OWN}
        patch = patch_size**spatial_dims
        AutoencoderKL.__init__(
            self, **{**settings, "in_channels": in_channels * patch, "out_channels": out_channels * patch}
        )
        self.__module__ = PUBLISHED_AS  # what diffusers writes as this component's library

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
        return self.config["patch_size"] * 2 ** (len(self.config["channels"]) - 1)

    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple[DiagonalGaussian]:  # type: ignore[override]
        """The latents' distribution, unscaled."""
        found = DiagonalGaussian(*AutoencoderKL.encode(self, _folded(x, self.config["patch_size"])))
        return AutoencoderKLOutput(latent_dist=found) if return_dict else (found,)

    def decode(self, z: Tensor, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:  # type: ignore[override]
        """What unscaled latents show."""
        limit = self.config["slab_voxels"]
        if limit is None or torch.is_grad_enabled():
            decoded = AutoencoderKL.decode(self, z)
        else:
            decoded = _decoded_in_slabs(self.decoder.blocks, self.post_quant_conv(z), limit)
        decoded = _unfolded(decoded, self.config["patch_size"])
        return DecoderOutput(sample=decoded) if return_dict else (decoded,)

    def forward(  # type: ignore[override]
        self,
        sample: Tensor,
        sample_posterior: bool = False,
        return_dict: bool = True,
        generator: torch.Generator | None = None,
    ) -> DecoderOutput | tuple[Tensor]:
        """What is left of images or volumes that went through the latents' mode, or a sample of them."""
        found = self.encode(sample, return_dict=False)[0]
        return self.decode(found.sample(generator) if sample_posterior else found.mode(), return_dict)

    def to_json_string(self) -> str:
        """The configuration as JSON, without the folder it happened to be loaded from."""
        config = json.loads(super().to_json_string())
        config.pop("_name_or_path", None)
        return json.dumps(config, indent=2, sort_keys=True) + "\n"

    def save_config(self, save_directory: str | PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write the configuration and this file, so that the repository opens where the package is not installed."""
        super().save_config(save_directory, push_to_hub=push_to_hub, **kwargs)
        shutil.copyfile(__file__, Path(save_directory, f"{PUBLISHED_AS}.py"))


def _folded(x: Tensor, side: int) -> Tensor:
    """Patches of `side` as channels: (B, C·side², h, w) of (B, C, H, W), and so in three dimensions."""
    if side == 1:
        return x
    if any(length % side for length in x.shape[2:]):
        raise ValueError(
            f"Got sides of {tuple(x.shape[2:])}; expected multiples of {side}, the side of a patch. Pad them."
        )
    dims = x.ndim - 2
    for axis in range(2, 2 + 2 * dims, 2):  # (B, C, h, side, w, side, …)
        x = x.unflatten(axis, (-1, side))
    return x.permute(0, 1, *range(3, 3 + 2 * dims, 2), *range(2, 2 + 2 * dims, 2)).flatten(1, 1 + dims)


def _unfolded(x: Tensor, side: int) -> Tensor:
    """The inverse of `_folded`."""
    if side == 1:
        return x
    dims = x.ndim - 2
    x = x.unflatten(1, (-1, *[side] * dims))  # (B, C, side, …, h, …)
    x = x.permute(0, 1, *(axis for n in range(dims) for axis in (2 + dims + n, 2 + n)))
    for axis in range(2, 2 + dims):
        x = x.flatten(axis, axis + 1)
    return x


# A feature map (B, C, D, …) as slabs along its third axis, from which the first is taken when it is used


def _decoded_in_slabs(blocks: Any, x: Tensor, limit: int) -> Tensor:
    """The blocks of MONAI's decoder one after the other, from where there are more than `limit` voxels on in slabs."""
    slabs: deque[Tensor] | None = None
    count = len(x)
    for block in blocks:
        grown = 2 if hasattr(block, "upsample_non_trainable") or hasattr(block, "deconv") else 1
        size = slabs[0].shape[3:] if slabs else x.shape[3:]
        plane = count * grown ** (1 + len(size)) * size.numel()  # voxels that come of one plane
        if slabs is None and plane * x.shape[2] <= limit:
            x = block(x)
            continue
        planes = max(1, limit // plane)
        slabs = _cut(deque([x]) if slabs is None else slabs, planes)
        x = x.new_empty(0)  # which the slabs are now
        slabs = _through(block, slabs, planes)
    return x if slabs is None else torch.cat([*slabs], dim=2)


def _through(block: Any, slabs: deque[Tensor], planes: int) -> deque[Tensor]:
    """A block of the decoder."""
    if isinstance(block, AEKLResBlock):
        return _residual(block, slabs)
    if isinstance(block, nn.GroupNorm):
        scale, shift = _affine(slabs, block)
        return deque(slabs.popleft().mul_(scale).add_(shift) for _ in range(len(slabs)))
    if hasattr(block, "upsample_non_trainable"):
        return _convolved(slabs, block.postconv.conv, block.upsample_non_trainable)
    if hasattr(block, "conv"):
        return _convolved(slabs, block.conv, lambda slab: slab)
    return _cut(deque([block(torch.cat([*slabs], dim=2))]), planes)  # attention sees all at once


def _residual(block: AEKLResBlock, slabs: deque[Tensor]) -> deque[Tensor]:
    kept: deque[Tensor] = deque()
    scale, shift = _affine(slabs, block.norm1)

    def first(slab: Tensor) -> Tensor:
        kept.append(block.nin_shortcut(slab))
        return F.silu(torch.addcmul(shift, slab, scale), inplace=True)

    hidden = _convolved(slabs, block.conv1.conv, first)
    gain, offset = _affine(hidden, block.norm2)
    return _convolved(hidden, block.conv2.conv, lambda slab: F.silu(slab.mul_(gain).add_(offset), inplace=True), kept)


def _convolved(
    slabs: deque[Tensor], conv: Any, prepared: Callable[[Tensor], Tensor], onto: deque[Tensor] | None = None
) -> deque[Tensor]:
    """`prepared` slabs through a convolution of 3 planes, added to `onto` if that is given."""
    out: deque[Tensor] = deque()
    convolve = F.conv3d if conv.weight.ndim == 5 else F.conv2d
    padding = (0, *conv.padding[1:])
    here = prepared(slabs.popleft())
    before = edge = torch.zeros_like(here[:, :, :1])
    for _ in range(1 + len(slabs)):
        after = prepared(slabs.popleft()) if slabs else edge
        joined = torch.cat([before, here, after[:, :, :1]], dim=2)
        before, here = here[:, :, -1:].clone(), after  # which lets the slab go before the convolution takes its memory
        found = convolve(joined, conv.weight, conv.bias, padding=padding)
        out.append(found if onto is None else onto.popleft().add_(found))
    return out


def _affine(slabs: deque[Tensor], norm: nn.GroupNorm) -> tuple[Tensor, Tensor]:
    """What a group normalisation of all slabs together multiplies by and adds, each (B, C, 1, …)."""
    count, groups = len(slabs[0]), norm.num_groups
    parts = [torch.var_mean(slab.reshape(count, groups, -1).float(), dim=2, correction=0) for slab in slabs]
    variances, means = (torch.stack([part[n] for part in parts]) for n in range(2))
    sizes = torch.tensor([slab.shape[2] for slab in slabs], device=means.device, dtype=means.dtype)
    shares = (sizes / sizes.sum()).view(-1, 1, 1)
    mean = (shares * means).sum(dim=0)
    variance = (shares * (variances + (means - mean).square())).sum(dim=0)
    channels = norm.num_channels // groups
    scale = (variance + norm.eps).rsqrt().repeat_interleave(channels, dim=1) * norm.weight.float()
    shift = norm.bias.float() - mean.repeat_interleave(channels, dim=1) * scale
    shape = (count, norm.num_channels, *(1,) * (slabs[0].ndim - 2))
    return scale.view(shape).to(slabs[0].dtype), shift.view(shape).to(slabs[0].dtype)


def _cut(slabs: deque[Tensor], planes: int) -> deque[Tensor]:
    """Slabs of at most so many planes; those that are thinner stay as they are."""
    out: deque[Tensor] = deque()
    while slabs:
        slab = slabs.popleft()
        out.extend([slab] if slab.shape[2] <= planes else [part.clone() for part in slab.split(planes, dim=2)])
    return out
