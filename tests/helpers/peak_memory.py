"""The largest amount of memory that live tensors take, counted exactly by their storages."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of all tensors that are created within the context, as long as they live."""

    def __init__(self) -> None:
        super().__init__()
        self.references: Counter[int] = Counter()
        self.live = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._track(tensor)
        self.peak = max(self.peak, self.live)
        return result

    def _track(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if not self.references[key]:
            self.live += size
        self.references[key] += 1
        weakref.finalize(tensor, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self.references[key] -= 1
        if not self.references[key]:
            self.live -= size


def peak_memory(function: Callable[[], Any]) -> int:
    """Return the peak in bytes of what a call allocates, with its result."""
    with PeakMemory() as memory:
        result = function()
    del result
    return memory.peak
