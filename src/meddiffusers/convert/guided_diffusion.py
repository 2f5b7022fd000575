"""Convert checkpoints of guided-diffusion (Dhariwal and Nichol 2021) to a diffusers `UNet2DModel` and its scheduler.

Many medical diffusion models are trained with this code or a copy of it, among them those of Wolleb et al. 2022 for
segmentation ("Diffusion models for implicit image segmentation ensembles") and for anomaly detection ("Diffusion models
for medical anomaly detection"). Their .pt files are bare state dicts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from meddiffusers.convert.guided_diffusion_config import unet_config
from meddiffusers.convert.guided_diffusion_names import source_name
from meddiffusers.convert.weights import check_names, check_shapes, load_checkpoint

Task = Literal["segmentation", "anomaly"]
QkvOrder = Literal["legacy", "new"]


def convert_guided_diffusion(
    path: str | Path,
    task: Task,
    *,
    image_size: int,
    num_heads: int | None = None,
    num_head_channels: int | None = None,
    qkv_order: QkvOrder = "legacy",
) -> tuple[UNet2DModel, DDPMScheduler]:
    """Convert a checkpoint file to a U-Net and the scheduler that it was trained with.

    Args:
        path: A .pt or .safetensors file with a state dict.
        task: See `scheduler_for`.
        image_size: Side length in pixels of the training images.
        num_heads: Number of attention heads; give this or `num_head_channels`.
        num_head_channels: Channels of each attention head.
        qkv_order: See `convert_unet`.

    Returns:
        The U-Net in float32 and in evaluation mode, and its scheduler.

    Raises:
        UnreadableError: As `load_checkpoint`.
        ValueError: As `convert_unet` and `scheduler_for`.
    """
    unet = convert_unet(
        load_checkpoint(path),
        image_size=image_size,
        num_heads=num_heads,
        num_head_channels=num_head_channels,
        qkv_order=qkv_order,
    )
    return unet, scheduler_for(task, unet.config)


def convert_unet(
    state_dict: Mapping[str, torch.Tensor],
    *,
    image_size: int,
    num_heads: int | None = None,
    num_head_channels: int | None = None,
    qkv_order: QkvOrder = "legacy",
) -> UNet2DModel:
    """Convert a state dict to a U-Net with the same outputs, in float32 and in evaluation mode.

    Args:
        state_dict: Weights by name.
        image_size: Side length in pixels of the training images.
        num_heads: Number of attention heads; give this or `num_head_channels`.
        num_head_channels: Channels of each attention head.
        qkv_order: Order of queries, keys and values in attention with several heads: "new" if the network was trained
            with use_new_attention_order. The weights do not determine it, and the wrong order gives wrong outputs.

    Raises:
        ValueError: As `unet_config`, or weights are missing, left over or of a wrong shape.
    """
    if qkv_order not in get_args(QkvOrder):
        raise ValueError(f"got qkv_order={qkv_order!r}; expected one of {', '.join(get_args(QkvOrder))}.")
    config = unet_config(state_dict, image_size=image_size, num_heads=num_heads, num_head_channels=num_head_channels)
    unet = UNet2DModel(**config)
    targets = unet.state_dict()
    sources = {target: source_name(target, config) for target in targets}
    check_names(set(sources.values()), state_dict.keys())
    weights = {
        target: weight_of(target, state_dict[source], config["attention_head_dim"], qkv_order)
        for target, source in sources.items()
    }
    check_shapes({sources[target]: (weights[target].shape, targets[target].shape) for target in targets})
    unet.load_state_dict(weights)
    return unet.eval()


def scheduler_for(task: Task, config: Mapping[str, Any]) -> DDPMScheduler:
    """Build the scheduler of guided-diffusion's defaults, as in both papers: 1000 steps, linear β, prediction of ε.

    Args:
        task: Which channels are noisy: one mask channel after those of the image ("segmentation"), or all ("anomaly").
        config: Configuration of the U-Net. With twice as many outputs as noisy channels the variance is learnt.

    Raises:
        ValueError: Another task, or a number of outputs that does not fit it.
    """
    if task not in get_args(Task):
        raise ValueError(f"got task {task!r}; expected one of {', '.join(get_args(Task))}.")
    noisy, outputs = config["in_channels"] if task == "anomaly" else 1, config["out_channels"]
    if outputs not in (noisy, 2 * noisy):
        raise ValueError(
            f"the network has {config['in_channels']} input and {outputs} output channels; expected {noisy} outputs, "
            f"or {2 * noisy} with a learnt variance, for {task}: give the task that it was trained for."
        )
    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        variance_type="fixed_large" if outputs == noisy else "learned_range",
        clip_sample=True,
        prediction_type="epsilon",
    )


def weight_of(target: str, source: torch.Tensor, head_width: int | None, qkv_order: QkvOrder) -> torch.Tensor:
    """Return the weight `target` in the shape of diffusers; for queries, keys or values, its third of the source."""
    part = next((n for n, name in enumerate((".to_q.", ".to_k.", ".to_v.")) if name in target), None)
    if part is not None and qkv_order == "new":
        source = source.chunk(3)[part]
    elif part is not None:
        heads = 1 if head_width is None else len(source) // (3 * head_width)
        source = source.unflatten(0, (heads, 3, -1))[:, part].flatten(0, 1)
    return source.squeeze(2) if source.ndim == 3 else source  # attention uses 1×1 Conv1d there and Linear here
