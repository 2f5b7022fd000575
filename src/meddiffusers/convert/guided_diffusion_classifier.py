"""Convert classifiers of guided-diffusion (Dhariwal and Nichol 2021), such as that of Wolleb et al. 2022."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import torch

from meddiffusers.convert.guided_diffusion import QkvOrder, weight_of
from meddiffusers.convert.guided_diffusion_config import shape_of
from meddiffusers.convert.guided_diffusion_names import source_name
from meddiffusers.convert.weights import check_names, check_shapes
from meddiffusers.models.noisy_classifier import NoisyClassifier

HEAD = {
    "norm_out.weight": "out.0.weight",
    "norm_out.bias": "out.0.bias",
    "head.positions": "out.2.positional_embedding",
    "head.to_qkv.weight": "out.2.qkv_proj.weight",
    "head.to_qkv.bias": "out.2.qkv_proj.bias",
    "head.to_out.weight": "out.2.c_proj.weight",
    "head.to_out.bias": "out.2.c_proj.bias",
}


def convert_classifier(
    state_dict: Mapping[str, torch.Tensor],
    *,
    image_size: int,
    num_head_channels: int = 64,
    qkv_order: QkvOrder = "legacy",
    id2label: Sequence[str] | Mapping[int, str] = ("healthy", "diseased"),
) -> NoisyClassifier:
    """Convert a state dict to a classifier with the same logits, in float32 and in evaluation mode.

    Args:
        state_dict: Weights by name.
        image_size: Side length in pixels of the training images, the only one that its pooling accepts.
        num_head_channels: Channels of each attention head, which the weights do not determine.
        qkv_order: "new" if it was trained with use_new_attention_order, which the weights do not determine either.
        id2label: Names of the classes in the order of the training.

    Raises:
        ValueError: It is no classifier with attention pooling, scale-shift norms and residual resampling (the defaults
            of guided-diffusion), or the arguments do not fit its weights.
    """
    if qkv_order not in get_args(QkvOrder):
        raise ValueError(f"got qkv_order={qkv_order!r}; expected one of {', '.join(get_args(QkvOrder))}.")
    config = classifier_config(state_dict, image_size=image_size, num_head_channels=num_head_channels)
    classes = shape_of(state_dict, "out.2.c_proj.weight")[0]
    if len(id2label) != classes:
        raise ValueError(f"got {len(id2label)} names of labels for {classes} classes; expected a name for each.")
    model = NoisyClassifier(**config, id2label=id2label)
    targets = model.state_dict()
    sources = {target: HEAD[target] if target in HEAD else source_name(target, config) for target in targets}
    check_names(set(sources.values()), state_dict.keys())
    weights = {
        target: weight_of(target, state_dict[source], num_head_channels, qkv_order)
        for target, source in sources.items()
    }
    check_shapes({sources[target]: (weights[target].shape, targets[target].shape) for target in targets})
    model.load_state_dict(weights)
    return model.eval()


def classifier_config(
    state_dict: Mapping[str, torch.Tensor], *, image_size: int, num_head_channels: int
) -> dict[str, Any]:
    """Return the arguments of the `NoisyClassifier` for these weights, without `id2label`.

    Raises:
        ValueError: As `convert_classifier`.
    """
    if "out.2.positional_embedding" not in state_dict:
        raise ValueError(
            "no guided-diffusion classifier with attention pooling: out.2.positional_embedding is missing; give the "
            "file that scripts/classifier_train.py saved."
        )
    channels, places = shape_of(state_dict, "out.2.positional_embedding")
    side = math.isqrt(places - 1)
    levels = int(math.log2(image_size / side)) + 1
    blocks = len({key.split(".")[1] for key in state_dict if key.startswith("input_blocks.")})
    layers = blocks // levels - 1
    if image_size != side * 2 ** (levels - 1) or blocks != levels * (layers + 1):
        raise ValueError(
            f"image_size={image_size} does not fit a pooling of {side}×{side} places and {blocks} blocks; expected the "
            "size of the training's images."
        )
    widths = {tensor.shape[1] for key, tensor in state_dict.items() if key.endswith(".qkv.weight")} | {channels}
    if any(width % num_head_channels for width in widths):
        raise ValueError(
            f"num_head_channels={num_head_channels} does not divide all of {sorted(widths)} channels; see the flags."
        )
    first = [f"input_blocks.{level * (layers + 1) + 1}" for level in range(levels)]
    width = shape_of(state_dict, "time_embed.0.weight")[1]
    embedding = shape_of(state_dict, "input_blocks.1.0.emb_layers.1.weight")[0]
    if embedding != 2 * width or (levels > 1 and f"input_blocks.{layers + 1}.0.in_layers.0.weight" not in state_dict):
        raise ValueError(
            "the network has no scale-shift norms, no residual resampling, or channel_mult[0] ≠ 1; expected what "
            "classifier_use_scale_shift_norm and classifier_resblock_updown make."
        )
    return {
        "in_channels": shape_of(state_dict, "input_blocks.0.0.weight")[1],
        "sample_size": image_size,
        "block_out_channels": [shape_of(state_dict, f"{block}.0.in_layers.2.weight")[0] for block in first],
        "layers_per_block": layers,
        "attention_levels": [level for level, block in enumerate(first) if f"{block}.1.qkv.weight" in state_dict],
        "attention_head_dim": num_head_channels,
        "norm_num_groups": 32,
        "pooling": "attention",
    }
