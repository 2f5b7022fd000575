"""Comparison with outputs that the reference code computed on another processor.

Instruction sets, numbers of threads and BLAS libraries sum in different orders. The outputs of the networks of these
tests, of order 1, then differ by up to 2.5e-6 of their largest value (SSE, AVX2, AVX-512; one and two threads).
`TOLERANCE` is eight times that, and still below what a single wrong weight changes, which the tests check.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

TOLERANCE = 2e-5


def relative_error(output: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest difference, relative to the largest expected magnitude where that exceeds 1."""
    assert output.shape == expected.shape
    return float((output - expected).abs().max() / expected.abs().max().clamp(min=1))


def with_one_wrong_weight(
    weights: Mapping[str, torch.Tensor], every: int = 1
) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """Yield the name of a convolution kernel, and the weights with the sign of its largest element flipped.

    Args:
        weights: Weights by name.
        every: Only each `every`-th kernel, in the order of the names.
    """
    for name in sorted(name for name, tensor in weights.items() if tensor.ndim > 2)[::every]:
        wrong = weights[name].clone()
        largest = wrong.abs().argmax()
        wrong.view(-1)[largest] *= -1
        yield name, {**weights, name: wrong}
