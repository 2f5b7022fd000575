"""Masks of the left ventricle: fields and label maps, signed distances, overlap, and the left atrium.

Functions that published pipelines import from beside them. The file is published with each of these pipelines.

A field is positive inside a structure. Two fields describe a label map: that of the LV, and that of LV and myocardium
together (`lv_myo`).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .meddiffusers_cardiac_labels_v1 import LA, LV, MYO
from .meddiffusers_cardiac_validity_v1 import clean_label_map

PUBLISHED_AS = "meddiffusers_cardiac_masks_v1"  # the file has the same name in a repository
OFFSET_BLUR = 0.7  # pixels; smooths differences of signed distances, which show the pixel grid
ATRIUM_GAP = 4  # pixels; widest gap between a regenerated base and the left atrium that is closed


def fields_to_labels(lv: np.ndarray, lv_myo: np.ndarray) -> np.ndarray:
    """Return label maps `(T, H, W)`, uint8, from the fields `(T, H, W)` of the LV and of LV and myocardium."""
    return np.where(lv_myo > 0, np.where(lv > 0, LV, MYO), 0).astype(np.uint8)


def without_atrium(labels: np.ndarray) -> np.ndarray:
    """Return label maps with the left atrium replaced by background."""
    return np.where(labels == LA, 0, labels)


def min_dice(labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the smaller of the Dice coefficients `(T,)` of LV and of myocardium between label maps `(T, H, W)`."""
    dice = []
    for label in (LV, MYO):
        a, b = labels == label, others == label
        total = a.sum(axis=(1, 2)) + b.sum(axis=(1, 2))
        dice.append(2 * (a & b).sum(axis=(1, 2)) / np.maximum(total, 1))
    return np.min(dice, axis=0)


def heart_dice(labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the Dice coefficients `(T,)` of LV and myocardium together between label maps `(T, H, W)`."""
    a, b = (np.isin(maps, (LV, MYO)) for maps in (labels, others))
    total = a.sum(axis=(1, 2)) + b.sum(axis=(1, 2))
    return np.asarray(2 * (a & b).sum(axis=(1, 2)) / np.maximum(total, 1))


def neighbouring_frames(outliers: np.ndarray) -> np.ndarray:
    """Return the nearest frames before and after each outlier that are no outliers themselves.

    Args:
        outliers: Mask `(T,)`, bool.

    Returns:
        Frames `(M, 2)` for M outliers; at the ends of the sequence one frame serves as both.
    """
    kept, missing = np.flatnonzero(~outliers), np.flatnonzero(outliers)
    after = np.searchsorted(kept, missing)
    return np.stack([kept[np.maximum(after - 1, 0)], kept[np.minimum(after, len(kept) - 1)]], axis=1)


def long_runs(mask: np.ndarray, longest: float, cyclic: bool) -> np.ndarray:
    """Return the runs of a mask `(T,)` that are longer than `longest` frames, and than one.

    Args:
        mask: Mask `(T,)`, bool.
        longest: Number of frames.
        cyclic: Whether a run at the end goes on at the beginning.
    """
    count = len(mask)
    components, _ = ndimage.label(np.tile(mask, 2) if cyclic else mask)
    lengths = np.minimum(np.bincount(components.ravel())[components], count)
    lengths = np.maximum(lengths[:count], lengths[count:]) if cyclic else lengths
    return np.asarray(mask & (lengths > max(longest, 1)))


def replace_outliers(
    labels: np.ndarray, outliers: np.ndarray, fields: tuple[np.ndarray, np.ndarray], spacing: tuple[float, float]
) -> np.ndarray:
    """Replace outlier frames by decoded shapes, whose borders are corrected by those of the neighbouring frames.

    The signed distance between decoded and true borders is known in the neighbouring frames. It is interpolated
    linearly in time and added to the decoded shapes of the outliers.

    Args:
        labels: Label maps `(T, H, W)`.
        outliers: Mask `(T,)`, bool, of M frames.
        fields: Decoded fields of the LV and of LV and myocardium, each `(M + N, H, W)`: of the outliers, then of the
            N different frames of `neighbouring_frames(outliers)` in ascending order.
        spacing: Distances in mm between rows and between columns.

    Returns:
        Label maps `(T, H, W)`.
    """
    missing, neighbours = np.flatnonzero(outliers), neighbouring_frames(outliers)
    used = np.unique(neighbours)
    true_masks = labels[used] == LV, (labels[used] == LV) | (labels[used] == MYO)
    decoded = [signed_distance(field > 0, spacing) for field in fields]
    offsets = [
        ndimage.gaussian_filter(
            signed_distance(mask, spacing) - distance[len(missing) :], (0, OFFSET_BLUR, OFFSET_BLUR)
        )
        for mask, distance in zip(true_masks, decoded, strict=True)
    ]
    result = labels.copy()
    for i, (t, (first, last)) in enumerate(zip(missing, neighbours, strict=True)):
        weight = 0.5 if first == last else (t - first) / (last - first)
        before, after = np.searchsorted(used, (first, last))
        corrected = [
            distance[i] + (1 - weight) * offset[before] + weight * offset[after]
            for distance, offset in zip(decoded, offsets, strict=True)
        ]
        result[t] = clean_label_map(fields_to_labels(*(field[None] for field in corrected))[0])
    return result


def add_atrium(labels: np.ndarray, original: np.ndarray, regenerated: np.ndarray) -> np.ndarray:
    """Add the left atrium of the original label maps where LV and myocardium leave room.

    Regenerated frames take the atrium of the nearest frame that is not, and the gap to their base is closed.

    Args:
        labels: Label maps `(T, H, W)` of LV and myocardium.
        original: Label maps `(T, H, W)` with the left atrium.
        regenerated: Mask `(T,)`, bool, of regenerated frames.

    Returns:
        Label maps `(T, H, W)`, uint8.
    """
    frames, kept = np.arange(len(original)), np.flatnonzero(~regenerated)
    if kept.size:
        original = original[kept[np.abs(frames[:, None] - kept).argmin(axis=1)]]
    ventricle = without_atrium(labels)
    result = np.where((ventricle == 0) & (original == LA), LA, ventricle).astype(np.uint8)
    for t in np.flatnonzero(regenerated & (result == LA).any(axis=(1, 2))):
        frame = result[t]
        closed = ndimage.binary_closing(frame > 0, iterations=ATRIUM_GAP // 2)
        near = ndimage.binary_dilation(frame == LA, iterations=ATRIUM_GAP)
        frame[closed & near & (frame == 0)] = LA
    return result


def signed_distance(masks: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """Distances `(T, H, W)` in mm to the border of masks `(T, H, W)`, float32, positive inside."""
    half_pixel = np.sqrt(spacing[0] * spacing[1]) / 2
    distances = []
    for mask in masks:
        inside, outside = (ndimage.distance_transform_edt(part, spacing) for part in (mask, ~mask))
        distances.append(np.where(mask, inside - half_pixel, half_pixel - outside).astype(np.float32))
    return np.stack(distances)
