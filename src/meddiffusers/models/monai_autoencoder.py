"""Autoencoder of images and volumes: MONAI's `AutoencoderKL` as a model of diffusers, with decoding in slabs.

| symbol | here | shape |
|---|---|---|
| x | `sample` | (B, C, H, W) or (B, C, D, H, W), as `spatial_dims` says |
| μ, σ | `encode(x).latent_dist.mean`, `.std` | (B, `latent_channels`, …), each side divided by `scale_factor` |
| z | latents | as μ |

Names and values of the weights are those of MONAI, and so are encoding and decoding (Pinaya et al. 2022, "Brain imaging
generation with latent diffusion models"). Latents times `scaling_factor` have unit variance. With `patch_size` above 1
the network receives the voxels of each patch as channels, which avoids the expensive layers at full resolution.

Large volumes are decoded in slabs. The result is that of decoding them whole, up to rounding: a convolution with three
planes needs one plane of the slab before and one of the slab after, and group normalisation uses statistics of all
slabs. Each slab is freed when the next layer has used it. So there are no seams, and at most two feature maps of full
size exist at once.
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
OWN = (
    "self",
    "__class__",
    "patch_size",
    "scaling_factor",
    "slab_voxels",
)  # not arguments of MONAI's network


@dataclass
class DiagonalGaussian:
    """Normal distribution of latents.

    Args:
        mean: Means (B, c, …).
        std: Standard deviations (B, c, …).
    """

    mean: Tensor
    std: Tensor

    def sample(self, generator: torch.Generator | list[torch.Generator] | None = None) -> Tensor:
        """Sample latents (B, c, …), with one generator for all or one for each."""
        return self.mean + self.std * randn_tensor(self.mean.shape, generator, self.mean.device, self.mean.dtype)

    def mode(self) -> Tensor:
        """Return the mode (B, c, …), which is the mean."""
        return self.mean

    def kl(self) -> Tensor:
        """Return the KL divergence from N(0, 1), summed over each sample, (B,)."""
        variance = self.std.square()
        return 0.5 * (self.mean.square() + variance - 1 - variance.log()).flatten(1).sum(dim=1)


class MonaiAutoencoderKL(AutoencoderKL, ModelMixin, ConfigMixin, PeftAdapterMixin):  # type: ignore[misc]
    """Autoencoder in two or three dimensions.

    Args:
        spatial_dims: 2 or 3. This and the arguments that are not listed here have the names and meanings of MONAI's
            `AutoencoderKL`.
        in_channels: C, the number of image channels, before patches become channels.
        patch_size: Side in voxels of the patches whose voxels become channels of the network.
        scaling_factor: Inverse of the latents' standard deviation.
        slab_voxels: Feature maps with more voxels are computed in slabs of about this size when gradients are disabled;
            None disables slabs.

    Example:
        >>> vae = MonaiAutoencoderKL(spatial_dims=3, latent_channels=3)
        >>> latents = vae.encode(torch.randn(1, 1, 32, 32, 32)).latent_dist.mode()
        >>> vae.decode(latents).sample.shape
        torch.Size([1, 1, 32, 32, 32])
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
        """Whether activations are recomputed rather than stored, MONAI's `use_checkpoint`."""
        return self.use_checkpoint

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, enable: bool) -> None:
        self.use_checkpoint = enable

    @property
    def scale_factor(self) -> int:
        """Factor by which the encoder reduces each side."""
        return self.config["patch_size"] * 2 ** (len(self.config["channels"]) - 1)

    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple[DiagonalGaussian]:  # type: ignore[override]
        """Encode images or volumes.

        Args:
            x: Images (B, C, H, W) or volumes (B, C, D, H, W); `patch_size` divides each side.
            return_dict: Return an output object rather than a tuple.

        Returns:
            An `AutoencoderKLOutput` whose `latent_dist` is the `DiagonalGaussian` of the unscaled latents.

        Raises:
            ValueError: Sides that `patch_size` does not divide.
        """
        posterior = DiagonalGaussian(*AutoencoderKL.encode(self, _space_to_depth(x, self.config["patch_size"])))
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    def decode(self, z: Tensor, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:  # type: ignore[override]
        """Decode unscaled latents (B, c, …) to images or volumes (B, C, …)."""
        limit = self.config["slab_voxels"]
        if limit is None or torch.is_grad_enabled():
            decoded = AutoencoderKL.decode(self, z)
        else:
            decoded = _decode_in_slabs(self.decoder.blocks, self.post_quant_conv(z), limit)
        decoded = _depth_to_space(decoded, self.config["patch_size"])
        return DecoderOutput(sample=decoded) if return_dict else (decoded,)

    def forward(  # type: ignore[override]
        self,
        sample: Tensor,
        sample_posterior: bool = False,
        return_dict: bool = True,
        generator: torch.Generator | None = None,
    ) -> DecoderOutput | tuple[Tensor]:
        """Reconstruct images or volumes (B, C, …) from the mode of their latents, or from a sample."""
        posterior = self.encode(sample, return_dict=False)[0]
        return self.decode(posterior.sample(generator) if sample_posterior else posterior.mode(), return_dict)

    def to_json_string(self) -> str:
        """Return the configuration as JSON with sorted keys, without the path that it was loaded from."""
        config = json.loads(super().to_json_string())
        config.pop("_name_or_path", None)
        return json.dumps(config, indent=2, sort_keys=True) + "\n"

    def save_config(self, save_directory: str | PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write the configuration and this file, so that the repository opens without the package."""
        super().save_config(save_directory, push_to_hub=push_to_hub, **kwargs)
        shutil.copyfile(__file__, Path(save_directory, f"{PUBLISHED_AS}.py"))


def _space_to_depth(x: Tensor, side: int) -> Tensor:
    """Return the voxels of patches as channels: (B, C, H, W) becomes (B, C·side², h, w), in 3D likewise."""
    if side == 1:
        return x
    if any(length % side for length in x.shape[2:]):
        raise ValueError(f"Got sides of {tuple(x.shape[2:])}; expected multiples of patch_size={side}. Pad them.")
    dims = x.ndim - 2
    for axis in range(2, 2 + 2 * dims, 2):  # (B, C, h, side, w, side, …)
        x = x.unflatten(axis, (-1, side))
    return x.permute(0, 1, *range(3, 3 + 2 * dims, 2), *range(2, 2 + 2 * dims, 2)).flatten(1, 1 + dims)


def _depth_to_space(x: Tensor, side: int) -> Tensor:
    """Return the inverse of `_space_to_depth`."""
    if side == 1:
        return x
    dims = x.ndim - 2
    x = x.unflatten(1, (-1, *[side] * dims))  # (B, C, side, …, h, …)
    x = x.permute(0, 1, *(axis for n in range(dims) for axis in (2 + dims + n, 2 + n)))
    for axis in range(2, 2 + dims):
        x = x.flatten(axis, axis + 1)
    return x


# A feature map (B, C, D, …) is a queue of slabs along its third axis; functions pop a slab when they use it


def _decode_in_slabs(blocks: Any, x: Tensor, limit: int) -> Tensor:
    """Apply the blocks of MONAI's decoder, in slabs from the first feature map with more than `limit` voxels on."""
    slabs: deque[Tensor] | None = None
    batch_size = len(x)
    for block in blocks:
        factor = 2 if hasattr(block, "upsample_non_trainable") or hasattr(block, "deconv") else 1
        size = slabs[0].shape[3:] if slabs else x.shape[3:]
        plane = batch_size * factor ** (1 + len(size)) * size.numel()  # output voxels of one input plane
        if slabs is None and plane * x.shape[2] <= limit:
            x = block(x)
            continue
        planes = max(1, limit // plane)
        slabs = _split(deque([x]) if slabs is None else slabs, planes)
        x = x.new_empty(0)  # the slabs hold its data
        slabs = _apply_block(block, slabs, planes)
    return x if slabs is None else torch.cat([*slabs], dim=2)


def _apply_block(block: Any, slabs: deque[Tensor], planes: int) -> deque[Tensor]:
    """Apply one block of the decoder."""
    if isinstance(block, AEKLResBlock):
        return _apply_residual(block, slabs)
    if isinstance(block, nn.GroupNorm):
        scale, shift = _affine(slabs, block)
        return deque(slabs.popleft().mul_(scale).add_(shift) for _ in range(len(slabs)))
    if hasattr(block, "upsample_non_trainable"):
        return _convolve(slabs, block.postconv.conv, block.upsample_non_trainable)
    if hasattr(block, "conv"):
        return _convolve(slabs, block.conv, lambda slab: slab)
    return _split(deque([block(torch.cat([*slabs], dim=2))]), planes)  # attention needs the whole feature map


def _apply_residual(block: AEKLResBlock, slabs: deque[Tensor]) -> deque[Tensor]:
    kept: deque[Tensor] = deque()
    scale, shift = _affine(slabs, block.norm1)

    def first(slab: Tensor) -> Tensor:
        kept.append(block.nin_shortcut(slab))
        return F.silu(torch.addcmul(shift, slab, scale), inplace=True)

    hidden = _convolve(slabs, block.conv1.conv, first)
    gain, offset = _affine(hidden, block.norm2)
    return _convolve(hidden, block.conv2.conv, lambda slab: F.silu(slab.mul_(gain).add_(offset), inplace=True), kept)


def _convolve(
    slabs: deque[Tensor], conv: Any, prepare: Callable[[Tensor], Tensor], onto: deque[Tensor] | None = None
) -> deque[Tensor]:
    """Apply `prepare` and a convolution with 3 planes, and add the result to the slabs `onto` if they are given."""
    out: deque[Tensor] = deque()
    convolve = F.conv3d if conv.weight.ndim == 5 else F.conv2d
    padding = (0, *conv.padding[1:])
    here = prepare(slabs.popleft())
    before = edge = torch.zeros_like(here[:, :, :1])
    for _ in range(1 + len(slabs)):
        after = prepare(slabs.popleft()) if slabs else edge
        joined = torch.cat([before, here, after[:, :, :1]], dim=2)
        before, here = here[:, :, -1:].clone(), after  # frees the slab before the convolution allocates
        output = convolve(joined, conv.weight, conv.bias, padding=padding)
        out.append(output if onto is None else onto.popleft().add_(output))
    return out


def _affine(slabs: deque[Tensor], norm: nn.GroupNorm) -> tuple[Tensor, Tensor]:
    """Return scale and shift (B, C, 1, …) of a group normalisation with the statistics of all slabs."""
    batch_size, groups = len(slabs[0]), norm.num_groups
    parts = [torch.var_mean(slab.reshape(batch_size, groups, -1).float(), dim=2, correction=0) for slab in slabs]
    variances, means = (torch.stack([part[n] for part in parts]) for n in range(2))
    sizes = torch.tensor([slab.shape[2] for slab in slabs], device=means.device, dtype=means.dtype)
    shares = (sizes / sizes.sum()).view(-1, 1, 1)
    mean = (shares * means).sum(dim=0)
    variance = (shares * (variances + (means - mean).square())).sum(dim=0)
    channels = norm.num_channels // groups
    scale = (variance + norm.eps).rsqrt().repeat_interleave(channels, dim=1) * norm.weight.float()
    shift = norm.bias.float() - mean.repeat_interleave(channels, dim=1) * scale
    shape = (batch_size, norm.num_channels, *(1,) * (slabs[0].ndim - 2))
    return scale.view(shape).to(slabs[0].dtype), shift.view(shape).to(slabs[0].dtype)


def _split(slabs: deque[Tensor], planes: int) -> deque[Tensor]:
    """Split slabs into ones of at most `planes` planes."""
    out: deque[Tensor] = deque()
    while slabs:
        slab = slabs.popleft()
        out.extend([slab] if slab.shape[2] <= planes else [part.clone() for part in slab.split(planes, dim=2)])
    return out
