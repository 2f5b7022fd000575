"""Anomaly detection: checks of the arguments, and postprocessing of anomaly maps.

A published pipeline imports this file from beside it; it is published with it.

| here | shape |
|---|---|
| differences, images | (B, C, H, W) |
| maps | (B, H, W) float32, the higher the more anomalous |
| foreground | (B, H, W) bool, the pixels that are not 0 in every modality |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image
import torch
from scipy import ndimage

from .meddiffusers_checks_v1 import check_counts, check_given_numbers, check_numbers

PUBLISHED_AS = "meddiffusers_anomaly_maps_v1"  # the file has the same name in a repository
TOP_FRACTION = 0.01  # part of the pixels, those with the highest values, that a slice's score averages
SMOOTHING = 1 / 32  # σ over height of the Gaussian that averages the noise of single pixels
DEFAULT_SMOOTHING = {"residual": 0.0, "label_contrast": SMOOTHING}  # by the kind of map
BINS = 256  # of Otsu's histogram


def check_components(unet: Any, classifier: Any | None, modalities: Sequence[str]) -> None:
    """Raise a ValueError if networks have other numbers of channels."""
    for name, network in (("unet", unet), ("classifier", classifier)):
        if network is not None and network.config["in_channels"] != len(modalities):
            raise ValueError(
                f"The {name} has {network.config['in_channels']} channels; got {len(modalities)} modalities "
                f"({', '.join(modalities)}). Give those that it was trained with."
            )


def check_method(method: str, target: str, labels: Mapping[str, int], classifier: Any | None) -> None:
    """Raise a ValueError if a method requires a classifier or a label that there is not."""
    if method == "classifier" and classifier is None:
        raise ValueError("method='classifier' but this pipeline has no classifier. Give it one, or another method.")
    if not isinstance(target, str) or (method != "none" and target not in labels):
        raise ValueError(f"target={target!r}; expected one of {', '.join(labels) or '(none: it has no labels)'}.")


def check_settings(strength: Any, guidance_scale: Any, threshold: Any) -> None:
    """Raise a ValueError if a setting of a call is no finite number; the last two may be None."""
    check_numbers(strength=strength)
    check_given_numbers(guidance_scale=guidance_scale, threshold=threshold)


def check_map(
    map_from: str, target: str, labels: Mapping[str, int], num_noise_samples: int, smoothing: float | None
) -> None:
    """Raise a ValueError if the settings of a map are invalid, or need other labels than those of the unet."""
    if map_from not in DEFAULT_SMOOTHING:
        raise ValueError(f"map_from={map_from!r}; expected one of {', '.join(DEFAULT_SMOOTHING)}.")
    check_numbers(num_noise_samples=num_noise_samples)
    check_given_numbers(smoothing=smoothing)
    if num_noise_samples < 1 or (smoothing or 0) < 0:
        raise ValueError(f"num_noise_samples={num_noise_samples} and smoothing={smoothing}; expected at least 1 and 0.")
    check_counts(num_noise_samples=num_noise_samples)
    if map_from == "label_contrast" and (target not in labels or len(labels) < 2):
        raise ValueError(
            f"map_from='label_contrast' and target={target!r}; expected one of two or more labels of the unet, "
            f"which are: {', '.join(labels) or '(none)'}. Use such a target, or map_from='residual'."
        )


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


def threshold_maps(
    images: torch.Tensor, counterfactual: torch.Tensor, anomaly_map: torch.Tensor, threshold: float | None
) -> dict[str, Any]:
    """Compute masks and scores.

    Args:
        images: Images in [0, 1], (B, C, H, W).
        counterfactual: The same shape.
        anomaly_map: (B, H, W).
        threshold: Threshold of the mask; by default Otsu's, over the foreground of all images.

    Returns:
        The fields of the pipeline's output, as tensors.
    """
    foreground = (images > 0).any(dim=1)
    threshold = otsu_threshold(anomaly_map[foreground]) if threshold is None else float(threshold)
    return {
        "counterfactual": counterfactual,
        "anomaly_map": anomaly_map,
        "mask": (anomaly_map > threshold).byte(),
        "score": slice_scores(anomaly_map, foreground),
        "threshold": threshold,
    }


def convert_results(results: Mapping[str, Any], output_type: str) -> dict[str, Any]:
    """Convert tensors to "np" or "pil", with the channels of the counterfactual last; "pt" and "latent" keep them."""
    if output_type in ("pt", "latent"):
        return dict(results)
    arrays = {name: value.numpy() if isinstance(value, torch.Tensor) else value for name, value in results.items()}
    arrays["counterfactual"] = np.moveaxis(arrays["counterfactual"], 1, -1)
    if output_type == "pil":
        grey = np.rint(255 * arrays["counterfactual"]).astype(np.uint8)
        arrays["counterfactual"] = [[PIL.Image.fromarray(c) for c in np.moveaxis(image, -1, 0)] for image in grey]
        arrays["mask"] = [PIL.Image.fromarray(255 * mask) for mask in arrays["mask"]]
    return arrays


def restore(subject: Any, results: Mapping[str, Any], modalities: Sequence[str]) -> dict[str, Any]:
    """Resample tensors of slices to scans on the voxels of a subject's files."""
    scans = {"counterfactual": subject.invert(results["counterfactual"].numpy(), modalities)}
    for name in ("anomaly_map", "mask"):
        scans[name] = subject.invert(results[name][:, None].numpy(), ["anomaly"])
    return {**results, "score": results["score"].numpy(), **scans}
