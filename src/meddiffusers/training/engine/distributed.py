"""Communication between the processes of a run."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def gather_with_gradient(x: Tensor) -> Tensor:
    """Concatenate the batches of all processes in the order of their ranks, with gradients.

    A loss over pairs of the global batch, computed on every process from the gathered tensor, has the gradient that a
    single process with the whole batch would have: the backward pass sums over the W processes, and the averaging of
    gradients divides by W.

    Args:
        x: The batch of this process, (B, …).

    Returns:
        The global batch, (W·B, …); `x` itself in a single process.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return x
    return _Gather.apply(x)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        batches = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(batches, x.contiguous())
        return torch.cat(batches)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]


class Agreement:
    """Shares a number that only some processes know, such as a received signal or the time.

    It is exchanged over gloo on the CPU, so that doing so after every step does not wait for the accelerator.
    """

    def __init__(self) -> None:
        together = dist.is_initialized() and dist.get_world_size() > 1
        self.group = dist.new_group(backend="gloo") if together else None

    def maximum(self, value: int) -> int:
        """The largest `value` of all processes; every process must call this."""
        if self.group is None:
            return value
        shared = torch.tensor(value)
        dist.all_reduce(shared, op=dist.ReduceOp.MAX, group=self.group)
        return int(shared)
