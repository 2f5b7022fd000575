"""What becomes of a map of anomalies: it is smoothed, cut by a threshold, and summed up to a score.

A file of plain functions that a published pipeline imports from beside it; it is published with it.

| here | shape |
|---|---|
| changes, images | (N, C, H, W) |
| maps | (N, H, W) float32, the higher the more anomalous |
| head | (N, H, W) bool, the pixels that are not black in every modality |
"""

from __future__ import annotations

import torch
from scipy import ndimage

PUBLISHED_AS = "meddiffusers_anomaly_maps_v1"  # file name in a repository; here the same, so that both find it
TOP = 0.01  # part of the pixels, those of the largest map, that a slice's score is the mean of
SMOOTHING = 1 / 32  # σ over height of the Gaussian that makes a map of single pixels' noise one of places
BINS = 256  # of Otsu's histogram


def mean_of_present(changes: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """(N, H, W) of (N, C, H, W): the mean over the channels that are not missing, which are black."""
    present = images.amax(dim=(2, 3)) > 0
    return (changes * present[:, :, None, None]).sum(dim=1) / present.sum(dim=1).clamp_min(1)[:, None, None]


def smoothed(maps: torch.Tensor, part: float) -> torch.Tensor:
    """Maps under a Gaussian whose σ is this part of their height; as they are if 0."""
    if not part:
        return maps
    sigma = part * maps.shape[1]
    return torch.from_numpy(ndimage.gaussian_filter(maps.cpu().numpy(), (0, sigma, sigma)))


def slice_scores(maps: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
    """(N,): by how much the hundredth of its pixels where a map is largest exceeds the head, bool (N, H, W); means.

    Maps of some slices are higher everywhere, as those of an uneven brain; what is sick stands out.
    """
    highest = maps.flatten(1).topk(max(1, round(TOP * maps[0].numel())), dim=1).values.mean(dim=1)
    return highest - (maps * head).sum(dim=(1, 2)) / head.sum(dim=(1, 2)).clamp_min(1)


def otsu(values: torch.Tensor) -> float:
    """The threshold that leaves the least variance within the two classes it makes (Otsu 1979); 0 of no values."""
    low, high = (float(end) for end in values.aminmax()) if values.numel() else (0.0, 0.0)
    if low == high:
        return high
    counts = torch.histc(values.float(), BINS, low, high).double()
    centres = low + (high - low) * (torch.arange(BINS, dtype=torch.float64) + 0.5) / BINS
    below, total = counts.cumsum(0), (counts * centres).cumsum(0)
    above = below[-1] - below
    between = below * above * (total / below.clamp_min(1) - (total[-1] - total) / above.clamp_min(1)).square()
    return low + (high - low) * (int(between.argmax()) + 1) / BINS
