"""Derive the architecture of a guided-diffusion U-Net from its weights.

guided-diffusion (Dhariwal and Nichol 2021) numbers the blocks of all levels consecutively. With L levels of R residual
blocks each, `input_blocks` holds the stem, then for each level, from fine to coarse, R blocks and a downsampling (not
at the coarsest); `output_blocks` for each level, from coarse to fine, R + 1 blocks, the last with an upsampling (not at
the finest). So both have L·(R + 1) entries, and the number of upsamplings gives L. A residual block may be followed by
attention.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

UPSAMPLER = r"output_blocks\.\d+\.[12]\.(conv|in_layers\.0)\.weight"  # a convolution, or a residual block of its own


def unet_config(
    state_dict: Mapping[str, torch.Tensor],
    *,
    image_size: int,
    num_heads: int | None = None,
    num_head_channels: int | None = None,
) -> dict[str, Any]:
    """Return the arguments of the `UNet2DModel` that has the same outputs as the checkpoint's network.

    The weights determine all but the arguments, and dropout, which is 0.

    Args:
        state_dict: Weights by name; only names and shapes are used.
        image_size: Side length in pixels of the training images; every multiple of the stride works.
        num_heads: Number of attention heads; give this or `num_head_channels`, as in training.
        num_head_channels: Channels of each attention head.

    Raises:
        ValueError: Not a complete guided-diffusion U-Net, one that `UNet2DModel` cannot express, or arguments that do
            not fit.
    """
    _check_kind(state_dict)
    levels, layers, by_blocks = _depth(state_dict)
    first_blocks = [f"input_blocks.{level * (layers + 1) + 1}" for level in range(levels)]
    widths = [shape_of(state_dict, f"{block}.0.in_layers.2.weight")[0] for block in first_blocks]
    attention = [f"{block}.1.qkv.weight" in state_dict for block in first_blocks]
    _check_stem(shape_of(state_dict, "time_embed.0.weight")[1], widths)
    if image_size < 1 or image_size % 2 ** (levels - 1):
        raise ValueError(f"image_size {image_size}: expected a multiple of {2 ** (levels - 1)}, the network's stride.")
    embedding = shape_of(state_dict, "input_blocks.1.0.emb_layers.1.weight")[0]  # of the time: a shift, or also a scale
    plain = "Resnet{}sampleBlock2D" if by_blocks else "{}Block2D"
    return {
        "sample_size": image_size,
        "in_channels": shape_of(state_dict, "input_blocks.0.0.weight")[1],
        "out_channels": shape_of(state_dict, "out.2.weight")[0],
        "block_out_channels": tuple(widths),
        "layers_per_block": layers,
        "down_block_types": tuple("AttnDownBlock2D" if here else plain.format("Down") for here in attention),
        "up_block_types": tuple("AttnUpBlock2D" if here else plain.format("Up") for here in reversed(attention)),
        "downsample_type": "resnet" if by_blocks else "conv",
        "upsample_type": "resnet" if by_blocks else "conv",
        "attention_head_dim": _head_width(state_dict, num_heads, num_head_channels),
        "resnet_time_scale_shift": "scale_shift" if embedding == 2 * widths[0] else "default",
        "attn_norm_num_groups": 32,  # without it, the middle's attention has no norm where there is a scale
        "num_class_embeds": shape_of(state_dict, "label_emb.weight")[0] if "label_emb.weight" in state_dict else None,
    }


def _check_kind(state_dict: Mapping[str, torch.Tensor]) -> None:
    dimensions = len(shape_of(state_dict, "input_blocks.0.0.weight")) - 2
    if dimensions != 2:
        raise ValueError(f"the network is made for {dimensions}D data; expected 2D, as UNet2DModel is.")
    if not any(key.startswith("output_blocks.") for key in state_dict):
        raise ValueError(
            "the network has input_blocks but no output_blocks, as the classifiers of guided-diffusion; expected a "
            "whole U-Net: give the checkpoint of the diffusion model."
        )


def _depth(state_dict: Mapping[str, torch.Tensor]) -> tuple[int, int, bool]:
    """Return L, R, and whether residual blocks resample between levels."""
    inputs, outputs = (
        len({key.split(".")[1] for key in state_dict if key.startswith(side)})
        for side in ("input_blocks.", "output_blocks.")
    )
    upsamplers = [key for key in state_dict if re.fullmatch(UPSAMPLER, key)]
    levels = len(upsamplers) + 1
    if inputs != outputs and not upsamplers:
        raise ValueError(
            "nothing is learnt between the levels (conv_resample=False), which UNet2DModel cannot express; expected "
            "convolutions or residual blocks: train with conv_resample or resblock_updown."
        )
    if inputs != outputs or outputs % levels:
        raise ValueError(
            f"got {inputs} input_blocks and {outputs} output_blocks for {levels} levels; expected as many of one as of "
            "the other, the same at each level: copy or download the checkpoint again."
        )
    return levels, outputs // levels - 1, any("in_layers" in key for key in upsamplers)


def _check_stem(model_channels: int, widths: list[int]) -> None:
    if widths[0] != model_channels:
        raise ValueError(
            f"the finest level has {widths[0]} channels and the time embedding starts from {model_channels}; "
            "UNet2DModel can only express the same number, channel_mult[0] = 1."
        )


def _head_width(
    state_dict: Mapping[str, torch.Tensor], num_heads: int | None, num_head_channels: int | None
) -> int | None:
    """Return the channels of an attention head; None for one head as wide as its block."""
    given = num_heads if num_heads is not None else num_head_channels
    if given is None or (num_heads is not None and num_head_channels is not None):
        raise ValueError(
            f"got num_heads={num_heads} and num_head_channels={num_head_channels}; expected one of them, as the "
            "weights do not tell: take it from the flags of the training."
        )
    widths = sorted({tensor.shape[1] for key, tensor in state_dict.items() if key.endswith(".qkv.weight")})
    if given < 1 or any(width % given for width in widths):
        raise ValueError(
            f"got {'num_heads' if num_heads is not None else 'num_head_channels'}={given} for attention over {widths} "
            "channels; expected a number that divides them: take it from the flags of the training."
        )
    if num_heads is None or num_heads == 1:
        return num_head_channels
    if len(widths) > 1:
        raise ValueError(
            f"got num_heads={num_heads} for attention over {widths} channels; UNet2DModel has heads of one width, so "
            "it can only express one head, one number of channels a head, or attention over one number of channels."
        )
    return shape_of(state_dict, "middle_block.1.qkv.weight")[1] // num_heads


def shape_of(state_dict: Mapping[str, torch.Tensor], key: str) -> torch.Size:
    """Return the shape of a weight that every network of guided-diffusion has; ValueError if it is missing."""
    if key not in state_dict:
        raise ValueError(f"no guided-diffusion network: {key} is missing; give the .pt file that its training saved.")
    return state_dict[key].shape
