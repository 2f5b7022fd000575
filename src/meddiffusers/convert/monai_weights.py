"""Weights of MONAI's generative networks, under the names of today or of GenerativeModels, for its classes of today.

What the old names stand for (Pinaya et al. 2023, "Generative AI for medical imaging: extending the MONAI framework"):

| today | before |
|---|---|
| `….attn.to_q.weight`, of self-attention between voxels | `….to_q.weight` |
| `….attn1.out_proj.weight`, of attention in a transformer | `….attn1.to_out.0.weight` |
| `….postconv.conv.weight`, of an upsampling | `….conv.conv.weight` |
| nothing | `….proj_attn.weight`, which self-attention had and never applied |

So old networks whose attention is between voxels are those with `include_fc=False`; those with transformers need True.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from meddiffusers.convert.weights import check_names, check_shapes

UNUSED = ".proj_attn."
SELF_ATTENTION = ".to_q.bias"  # transformers have none


def has_old_names(weights: Mapping[str, Tensor]) -> bool:
    """Whether these are the names of GenerativeModels."""
    return any(UNUSED in name or ".to_out.0." in name for name in weights)


def includes_fc(weights: Mapping[str, Tensor]) -> bool:
    """MONAI's setting `include_fc` of the network that such weights are of: whether attention ends in a linear map."""
    if has_old_names(weights):
        return not any(UNUSED in name for name in weights)
    attends = any(name.endswith(SELF_ATTENTION) for name in weights)
    return not attends or any(".attn.out_proj." in name for name in weights)


def renamed(weights: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under today's names, those of `targets`, and in float32.

    Raises:
        ValueError: weights are missing, left over or of a wrong shape.
    """
    used = {name: tensor for name, tensor in weights.items() if UNUSED not in name}
    sources = {target: _source(target, used) for target in targets}
    check_names(set(sources.values()), used)
    check_shapes({sources[target]: (used[sources[target]].shape, tensor.shape) for target, tensor in targets.items()})
    return {target: used[source].float() for target, source in sources.items()}


def _source(target: str, weights: Mapping[str, Tensor]) -> str:
    """The name that a weight has there; today's if it has none."""
    before = target.replace(".attn.to_", ".to_").replace(".out_proj.", ".to_out.0.").replace(".postconv.", ".conv.")
    return next((name for name in (target, before) if name in weights), target)
