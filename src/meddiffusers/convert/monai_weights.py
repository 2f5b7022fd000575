"""Rename weights of MONAI's generative networks, from GenerativeModels or current MONAI, for the classes of MONAI.

Names in GenerativeModels (Pinaya et al. 2023, "Generative AI for medical imaging: extending the MONAI framework"):

| MONAI | GenerativeModels |
|---|---|
| `….attn.to_q.weight`, self-attention between voxels | `….to_q.weight` |
| `….attn1.out_proj.weight`, attention in a transformer | `….attn1.to_out.0.weight` |
| `….postconv.conv.weight`, upsampling | `….conv.conv.weight` |
| – | `….proj_attn.weight`, a layer of self-attention that was never applied |

Old networks with attention between voxels thus need `include_fc=False`, those with transformers True.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from meddiffusers.convert.weights import check_names, check_shapes

UNUSED = ".proj_attn."
SELF_ATTENTION = ".to_q.bias"  # transformers have none


def has_old_names(weights: Mapping[str, Tensor]) -> bool:
    """Return whether the weights have names of GenerativeModels."""
    return any(UNUSED in name or ".to_out.0." in name for name in weights)


def includes_fc(weights: Mapping[str, Tensor]) -> bool:
    """Return MONAI's argument `include_fc` for these weights: whether attention ends in a linear layer."""
    if has_old_names(weights):
        return not any(UNUSED in name for name in weights)
    attends = any(name.endswith(SELF_ATTENTION) for name in weights)
    return not attends or any(".attn.out_proj." in name for name in weights)


def renamed(weights: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights in float32 under the names of `targets`, the weights of MONAI's class.

    Raises:
        ValueError: Weights are missing, left over or of a wrong shape.
    """
    used = {name: tensor for name, tensor in weights.items() if UNUSED not in name}
    sources = {target: _source(target, used) for target in targets}
    check_names(set(sources.values()), used)
    check_shapes({sources[target]: (used[sources[target]].shape, tensor.shape) for target, tensor in targets.items()})
    return {target: used[source].float() for target, source in sources.items()}


def _source(target: str, weights: Mapping[str, Tensor]) -> str:
    """Return the name of a weight in `weights`, old or current."""
    before = target.replace(".attn.to_", ".to_").replace(".out_proj.", ".to_out.0.").replace(".postconv.", ".conv.")
    return next((name for name in (target, before) if name in weights), target)
