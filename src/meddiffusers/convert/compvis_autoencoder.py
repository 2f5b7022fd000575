"""Convert autoencoders with the names of CompVis' latent-diffusion (Rombach et al. 2022) to an `AutoencoderKL`.

Among them is MedVAE (Varma et al. 2025), whose `medvae_4_1_2d` encodes grey images of 256² pixels as latents of 64².
Its projections to the embedding of BiomedCLIP are left out. The weights determine the numbers of levels, channels and
blocks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL

from meddiffusers.convert.weights import check_names, check_shapes, load_checkpoint

LEFT_OUT = ("channel_ds.", "channel_proj.", "loss.", "model_ema.")
WHOLE = {"conv_in": "conv_in", "conv_out": "conv_out", "conv_norm_out": "norm_out"}
RESNET = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2", "conv_shortcut": "nin_shortcut"}
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def convert_autoencoder(path: str | Path, sample_size: int = 256) -> AutoencoderKL:
    """Convert a checkpoint file.

    Args:
        path: A .ckpt, .pt or .safetensors file: a state dict, or a dictionary with one under "state_dict".
        sample_size: Side length in pixels of the training images.

    Raises:
        UnreadableError: As `load_checkpoint`.
        ValueError: As `autoencoder_of`.

    Example:
        >>> convert_autoencoder("medvae_4_1_2d.ckpt").save_pretrained("vae")
    """
    return autoencoder_of(load_checkpoint(path, within="state_dict"), sample_size)


def autoencoder_of(state_dict: Mapping[str, torch.Tensor], sample_size: int = 256) -> AutoencoderKL:
    """Convert a state dict to an autoencoder with the same outputs, in float32 and in evaluation mode.

    Its scaling factor is 1: measure the latents' standard deviation to set it.

    Args:
        state_dict: Weights by name.
        sample_size: Side length in pixels of the training images.

    Raises:
        ValueError: Weights are missing, left over or of a wrong shape, or not of such an autoencoder.
    """
    weights = {name: tensor for name, tensor in state_dict.items() if not name.startswith(LEFT_OUT)}
    vae: Any = AutoencoderKL(**autoencoder_config(weights), sample_size=sample_size)
    targets = vae.state_dict()
    levels = len(vae.config["block_out_channels"])
    sources = {target: _source(target, levels) for target in targets}
    check_names(set(sources.values()), weights)
    found = {target: weights[source].float() for target, source in sources.items()}
    # attention uses 1×1 convolutions there and linear layers here
    shaped = {name: tensor[..., 0, 0] if targets[name].ndim < tensor.ndim else tensor for name, tensor in found.items()}
    check_shapes({sources[name]: (shaped[name].shape, targets[name].shape) for name in targets})
    vae.load_state_dict(shaped)
    return vae.eval()


def autoencoder_config(weights: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Return the arguments of the `AutoencoderKL` for these weights.

    Raises:
        ValueError: They are not of such an autoencoder, it has attention between its blocks, or the encoder's output
            and the latents' moments have different channels.
    """
    blocks = {
        (int(found[1]), int(found[2])): tensor
        for name, tensor in weights.items()
        if (found := re.fullmatch(r"encoder\.down\.(\d+)\.block\.(\d+)\.conv1\.weight", name))
    }
    needed = {"encoder.conv_in.weight", "decoder.conv_out.weight", "quant_conv.weight", "encoder.conv_out.weight"}
    if not blocks or not needed <= weights.keys() or any(".attn." in name for name in weights):
        raise ValueError(
            "these are not the weights of an autoencoder of latent-diffusion without attention between its blocks; "
            "expected encoder.down.0.block.0.conv1.weight, quant_conv.weight and so on: give such a checkpoint."
        )
    moments, encoded = weights["quant_conv.weight"].shape[:2]
    if moments != encoded:
        raise ValueError(
            f"the encoder gives {encoded} channels, the latents' moments have {moments}; an AutoencoderKL has as many "
            "of both. Such an autoencoder cannot be converted."
        )
    levels = 1 + max(level for level, _ in blocks)
    return {
        "in_channels": weights["encoder.conv_in.weight"].shape[1],
        "out_channels": weights["decoder.conv_out.weight"].shape[0],
        "block_out_channels": tuple(blocks[level, 0].shape[0] for level in range(levels)),
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "layers_per_block": 1 + max(block for _, block in blocks),
        "latent_channels": moments // 2,
        "mid_block_add_attention": "encoder.mid.attn_1.q.weight" in weights,
        "scaling_factor": 1.0,
    }


def _source(target: str, levels: int) -> str:
    """Return the name in the checkpoint of `target`, a weight of an AutoencoderKL."""
    module, _, parameter = target.rpartition(".")
    if module in ("quant_conv", "post_quant_conv"):
        return target
    side, _, inside = module.partition(".")
    if inside in WHOLE:
        return f"{side}.{WHOLE[inside]}.{parameter}"
    match inside.split("."):
        case ["mid_block", "resnets", number, part]:
            return f"{side}.mid.block_{int(number) + 1}.{RESNET[part]}.{parameter}"
        case ["mid_block", "attentions", _, *rest]:
            return f"{side}.mid.attn_1.{ATTENTION['.'.join(rest)]}.{parameter}"
        case ["down_blocks", level, "resnets", number, part]:
            return f"{side}.down.{level}.block.{number}.{RESNET[part]}.{parameter}"
        case ["down_blocks", level, "downsamplers", _, _]:
            return f"{side}.down.{level}.downsample.conv.{parameter}"
        case ["up_blocks", level, "resnets", number, part]:  # counted from the finest level there
            return f"{side}.up.{levels - 1 - int(level)}.block.{number}.{RESNET[part]}.{parameter}"
        case ["up_blocks", level, "upsamplers", _, _]:
            return f"{side}.up.{levels - 1 - int(level)}.upsample.conv.{parameter}"
    raise KeyError(f"{target} is no weight of an AutoencoderKL")
