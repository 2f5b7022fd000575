"""Postprocessing of anomaly maps: mean over modalities, smoothing, threshold and score.

A published pipeline imports this file from beside it; it is published with it.

| here | shape |
|---|---|
| differences, images | (B, C, H, W) |
| maps | (B, H, W) float32, the higher the more anomalous |
| foreground | (B, H, W) bool, the pixels that are not 0 in every modality |
"""

from __future__ import annotations

import torch
from scipy import ndimage

PUBLISHED_AS = "meddiffusers_anomaly_maps_v1"  # the file has the same name in a repository
TOP_FRACTION = 0.01  # part of the pixels, those with the highest values, that a slice's score averages
SMOOTHING = 1 / 32  # σ over height of the Gaussian that averages the noise of single pixels
BINS = 256  # of Otsu's histogram


def mean_over_modalities(differences: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Average differences (B, C, H, W) over the modalities that are present, which are not 0 everywhere: (B, H, W)."""
    present = images.amax(dim=(2, 3)) > 0
    return (differences * present[:, :, None, None]).sum(dim=1) / present.sum(dim=1).clamp_min(1)[:, None, None]


def smooth(maps: torch.Tensor, relative_sigma: float) -> torch.Tensor:
    """Smooth maps (B, H, W) with a Gaussian, whose σ is `relative_sigma` times the height; unchanged if 0."""
    if not relative_sigma:
        return maps
    sigma = relative_sigma * maps.shape[1]
    return torch.from_numpy(ndimage.gaussian_filter(maps.cpu().numpy(), (0, sigma, sigma)))


def slice_scores(maps: torch.Tensor, foreground: torch.Tensor) -> torch.Tensor:
    """Score slices by how far the highest 1 % of a map exceeds its foreground; both are means.

    The foreground is subtracted because maps of some slices are higher everywhere, such as those of atypical anatomy.

    Args:
        maps: Anomaly maps, (B, H, W).
        foreground: Bool, (B, H, W).

    Returns:
        Scores, (B,).
    """
    highest = maps.flatten(1).topk(max(1, round(TOP_FRACTION * maps[0].numel())), dim=1).values.mean(dim=1)
    return highest - (maps * foreground).sum(dim=(1, 2)) / foreground.sum(dim=(1, 2)).clamp_min(1)


def otsu_threshold(values: torch.Tensor) -> float:
    """Return the threshold that minimises the variance within the two classes (Otsu 1979); 0 without values."""
    low, high = (float(end) for end in values.aminmax()) if values.numel() else (0.0, 0.0)
    if low == high:
        return high
    counts = torch.histc(values.float(), BINS, low, high).double()
    centres = low + (high - low) * (torch.arange(BINS, dtype=torch.float64) + 0.5) / BINS
    below, total = counts.cumsum(0), (counts * centres).cumsum(0)
    above = below[-1] - below
    between = below * above * (total / below.clamp_min(1) - (total[-1] - total) / above.clamp_min(1)).square()
    return low + (high - low) * (int(between.argmax()) + 1) / BINS
