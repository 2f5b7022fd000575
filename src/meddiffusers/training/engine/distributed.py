"""What the processes of one run tell each other."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def gather_with_gradient(x: Tensor) -> Tensor:
    """Joins the batches of all processes, (B, …) → (W·B, …) in the order of ranks; gradients flow back to each.

    A loss over the pairs of the global batch, computed alike on every process from the gathered tensor, has the
    gradient that one process with the whole batch would have: the backward pass sums over the W processes, and the
    averaging of gradients divides by W. Returns ``x`` itself when there is one process.
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
    """Lets all processes act on a number that only some of them know, such as a signal received or the time.

    Exchanged over gloo on the CPU, so that asking after every step does not wait for the accelerator.
    """

    def __init__(self) -> None:
        together = dist.is_initialized() and dist.get_world_size() > 1
        self.group = dist.new_group(backend="gloo") if together else None

    def maximum(self, value: int) -> int:
        """The largest ``value`` of any process; every process must ask."""
        if self.group is None:
            return value
        shared = torch.tensor(value)
        dist.all_reduce(shared, op=dist.ReduceOp.MAX, group=self.group)
        return int(shared)
