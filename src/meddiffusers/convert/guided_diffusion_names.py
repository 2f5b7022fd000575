"""Names of the weights of `UNet2DModel` in guided-diffusion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WHOLE = {  # modules outside of the blocks
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "class_embedding": "label_emb",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
INSIDE = {  # modules within a residual block, an attention, a way up
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
    "group_norm": "norm",
    "to_q": "qkv",
    "to_k": "qkv",
    "to_v": "qkv",
    "to_out.0": "proj_out",
    "conv": "conv",
}
POSITION = {"resnets": 0, "attentions": 1}  # in an entry of input_blocks and output_blocks


def source_name(target: str, config: Mapping[str, Any]) -> str:
    """Return the name in a guided-diffusion checkpoint of `target`, a weight of the `UNet2DModel` of `config`.

    The three weights to_q, to_k and to_v of an attention are parts of one source. How blocks are numbered:
    `guided_diffusion_config`.
    """
    module, _, parameter = target.rpartition(".")
    if module in WHOLE:
        return f"{WHOLE[module]}.{parameter}"
    layers = config["layers_per_block"]
    match module.split("."):
        case ["down_blocks", level, "downsamplers", _, "conv"]:
            return f"input_blocks.{(int(level) + 1) * (layers + 1)}.0.op.{parameter}"
        case ["down_blocks", level, "downsamplers", _, *inside]:
            place = f"input_blocks.{(int(level) + 1) * (layers + 1)}.0"
        case ["down_blocks", level, kind, layer, *inside]:
            place = f"input_blocks.{int(level) * (layers + 1) + 1 + int(layer)}.{POSITION[kind]}"
        case ["up_blocks", level, "upsamplers", _, *inside]:
            attention = config["up_block_types"][int(level)] == "AttnUpBlock2D"
            place = f"output_blocks.{int(level) * (layers + 1) + layers}.{2 if attention else 1}"
        case ["up_blocks", level, kind, layer, *inside]:
            place = f"output_blocks.{int(level) * (layers + 1) + int(layer)}.{POSITION[kind]}"
        case ["mid_block", "resnets", layer, *inside]:
            place = f"middle_block.{2 * int(layer)}"
        case ["mid_block", "attentions", _, *inside]:
            place = "middle_block.1"
        case _:
            raise KeyError(f"{target} is no weight of a UNet2DModel of {config}")
    return f"{place}.{INSIDE['.'.join(inside)]}.{parameter}"
