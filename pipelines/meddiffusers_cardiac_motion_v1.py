"""Motion of the borders of the left ventricle over a sequence: fitted, and checked frame by frame.

Functions that published pipelines import from beside them. The file is published with each of these pipelines.

Two signed distances d(t, x) in mm describe a label map: to the border of the LV, and to that of LV and myocardium. At
each point x, a smooth curve over time is fitted to d(t, x),

    minimise  Σ c_t (s_t − d_t)² + w/2 Σ (Δ³s)_t²          s = A d,  A = (C + w DᵀD/2)⁻¹ C

with c_t = 0 for frames that are left out. One matrix A serves all points. The error of predicting a frame from the
others is e_t² = [(I − A) G (I − A)ᵀ]_tt / (1 − A_tt)², with the Gram matrix G of the distances near the borders. The
weight w with the smallest error over the kept frames is chosen (leave-one-out cross-validation), and at the ends of a
sequence that is no whole cycle also whether the motion goes on or comes to rest there, as at end diastole and systole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from .meddiffusers_cardiac_labels_v1 import LV, MYO
from .meddiffusers_cardiac_masks_v1 import fields_to_labels, signed_distance

PUBLISHED_AS = "meddiffusers_cardiac_motion_v1"  # the file has the same name in a repository
WEIGHTS = np.geomspace(3e-3, 3e3, 30)
FAR, NEAR = 25.0, 12.0  # mm: largest distance that is told apart; how far from the borders the errors count
FINE = 0.6  # mm; finer grids are thinned for the fit
OUTLIER_RATIO, OUTLIER_EXCESS = 2.5, 0.6  # an outlier's error over the median error, and above it in mm
RESTORED_RATIO, RESTORED_EXCESS = 2.0, 0.5  # below these, a frame that was left out agrees after all
MARGIN = 4  # pixels around the heart


class _Fit(NamedTuple):
    errors: np.ndarray  # (T,) squared errors of predicting each frame from the others, mm²
    matrix: np.ndarray  # (T, T), A
    weight: float
    ends: str


@dataclass(frozen=True, eq=False)
class BorderMotion:
    """Fitted motion of the borders.

    Args:
        labels: Label maps `(T, H, W)` of LV and myocardium within the fitted borders.
        outliers: Mask `(T,)`, bool, of frames that the motion of the others does not explain.
        noise: Root mean square error of predicting the borders of a kept frame from the others, mm.
        gain: Mean square error of this prediction over that without smoothing; 1 where smoothing does not help.
        matrix: A `(T, T)`, with which any measurement is smoothed alike.
    """

    labels: np.ndarray
    outliers: np.ndarray
    noise: float
    gain: float
    matrix: np.ndarray


def fit_border_motion(
    labels: np.ndarray, usable: np.ndarray, spacing: tuple[float, float], cyclic: bool
) -> BorderMotion:
    """Fit the motion of the borders.

    Args:
        labels: Label maps `(T, H, W)`, T ≥ 3.
        usable: Mask `(T,)`, bool, of frames that show LV and myocardium; at least three.
        spacing: Distances in mm between rows and between columns.
        cyclic: Whether the last frame shows the same phase of the cardiac cycle as the first.
    """
    box = _bounding_box(labels)
    step = max(1, int(FINE / np.sqrt(spacing[0] * spacing[1])))
    fine = _distances(labels[:, box[0], box[1]], spacing)
    coarse = fine[:, :, ::step, ::step]
    gram = _gram(coarse, usable)
    kept, fit = _kept_frames(gram, usable, cyclic)
    unsmoothed = _best_fit(gram, kept, [fit.ends], np.mean, WEIGHTS[:1])
    change = np.tensordot(fit.matrix - np.diag(kept.astype(float)), coarse, axes=1)
    fitted = kept[:, None, None, None] * fine + _enlarge(change, step, fine.shape[2:])
    result = np.zeros(labels.shape, np.uint8)
    result[:, box[0], box[1]] = fields_to_labels(fitted[:, 0], fitted[:, 1])
    noise = fit.errors[kept].mean()
    return BorderMotion(result, ~kept, float(np.sqrt(noise)), float(noise / unsmoothed.errors[kept].mean()), fit.matrix)


def fit_signal(signal: np.ndarray, kept: np.ndarray, cyclic: bool) -> np.ndarray:
    """Matrix A `(T, T)` that smooths a signal `(T,)` best by leave-one-out cross-validation over the frames `kept`.

    The fifth of the frames with the largest errors does not count.
    """

    def trimmed_mean(squares: np.ndarray) -> float:
        return float(np.sort(squares)[: max(3, round(0.8 * len(squares)))].mean())

    return _best_fit(np.outer(signal, signal), kept, _ends(cyclic), trimmed_mean).matrix


def prediction_errors(signal: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Errors `(T,)` of predicting each value of a signal `(T,)` from the others with A `(T, T)`."""
    return (signal - matrix @ signal) / np.maximum(1 - np.diag(matrix), 1e-6)


def _kept_frames(gram: np.ndarray, usable: np.ndarray, cyclic: bool) -> tuple[np.ndarray, _Fit]:
    """Mask (T,) of frames that agree with each other, and the fit to them."""
    ends = _ends(cyclic)
    kept = usable.copy()

    def errors(mask: np.ndarray) -> np.ndarray:
        return np.sqrt(_best_fit(gram, mask, ends, np.median, WEIGHTS[::4]).errors)

    while kept.sum() > max(3, len(kept) / 2):
        error = errors(kept)
        limit = max(OUTLIER_RATIO * np.median(error[kept]), np.median(error[kept]) + OUTLIER_EXCESS)
        if error[kept].max() < limit:
            break
        kept = _without_the_worst(kept, error, limit, errors, cyclic)
    fit = _best_fit(gram, kept, ends, np.mean)
    for _ in range(2):
        error = np.sqrt(fit.errors)
        median = np.median(error[kept])
        agreeing = usable & ~kept & (error < max(RESTORED_RATIO * median, median + RESTORED_EXCESS))
        if not agreeing.any():
            break
        kept = kept | agreeing
        fit = _best_fit(gram, kept, ends, np.mean)
    return kept, fit


def _without_the_worst(
    kept: np.ndarray, error: np.ndarray, limit: float, errors: Callable[[np.ndarray], np.ndarray], cyclic: bool
) -> np.ndarray:
    """Leave out the one or two frames, near the largest errors, without which the others agree best."""
    count = len(kept)
    worst = [t for t in np.argsort(-np.where(kept, error, 0))[:4] if error[t] >= limit]
    around = {(t + k) % count if cyclic else t + k for t in worst for k in (-2, -1, 0, 1, 2)}
    near = sorted(t for t in around if 0 <= t < count and kept[t])
    pairs = [
        (t, u) for i, t in enumerate(near) for u in near[i + 1 :] if u - t <= 2 or (cyclic and count - 1 - u + t <= 2)
    ]

    def cost(frames: tuple[int, ...]) -> float:
        rest = kept.copy()
        rest[list(frames)] = False
        return (
            float(np.minimum(errors(rest)[rest], 4 * limit).sum() + limit * len(frames)) if rest.sum() > 2 else np.inf
        )

    result = kept.copy()
    trials: list[tuple[int, ...]] = [*((t,) for t in near), *pairs]
    result[list(trials[int(np.argmin([cost(trial) for trial in trials]))])] = False
    return result


def _ends(cyclic: bool) -> list[str]:
    return ["cycle"] if cyclic else ["free", "at rest"]


def _best_fit(
    gram: np.ndarray,
    kept: np.ndarray,
    ends: Sequence[str],
    statistic: Callable[[np.ndarray], Any],
    weights: np.ndarray = WEIGHTS,
) -> _Fit:
    """The fit with the smallest error over the kept frames."""
    confidence = np.diag(np.where(kept, 1.0, 1e-9))
    fits = []
    for end in ends:
        rows = _third_differences(len(gram), end)
        penalty = rows.T @ rows / 2
        for weight in weights:
            matrix = np.linalg.solve(confidence + weight * penalty, confidence)
            residual = np.eye(len(gram)) - matrix
            squares = np.maximum(np.einsum("ij,jk,ik->i", residual, gram, residual), 0)
            fits.append(_Fit(squares / np.maximum(1 - np.diag(matrix), 1e-6) ** 2, matrix, float(weight), end))
    return min(fits, key=lambda fit: float(statistic(fit.errors[kept])))


def _third_differences(count: int, ends: str) -> np.ndarray:
    """Third differences of T frames as a matrix; second ones below five frames."""
    order, eye = 3 if count > 4 else 2, np.eye(count)
    if ends == "cycle" and count > 4:
        wrapped = np.concatenate([eye[count - 3 : count - 1], eye, eye[1:3]])
        return np.concatenate([np.diff(wrapped, n=order, axis=0), eye[:1] - eye[-1:]])
    if ends == "at rest" and count > 3:
        return np.diff(np.concatenate([eye[[2, 1]], eye, eye[[-2, -3]]]), n=order, axis=0)
    return np.diff(eye, n=order, axis=0)


def _gram(distances: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """G (T, T), the mean product of the distances of two frames near the borders, mm²."""
    near = np.abs(np.median(distances[usable], axis=0)).min(axis=0) < NEAR
    values = distances[:, :, near].reshape(len(distances), -1).astype(np.float64)
    return values @ values.T / values.shape[1]


def _distances(labels: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """Signed distances (T, 2, H, W) in mm to the border of the LV and to that of LV and myocardium."""
    masks = (labels == LV, np.isin(labels, (LV, MYO)))
    return np.stack([np.clip(signed_distance(mask, spacing), -FAR, FAR) for mask in masks], axis=1)


def _enlarge(fields: np.ndarray, step: int, shape: tuple[int, ...]) -> np.ndarray:
    """Fields (T, 2, H, W) from those at every `step`-th row and column, linearly interpolated."""
    if step == 1:
        return fields
    scale = [1.0, 1.0, 1 / step, 1 / step]
    return ndimage.affine_transform(fields, scale, output_shape=(*fields.shape[:2], *shape), order=1, mode="nearest")


def _bounding_box(labels: np.ndarray) -> tuple[slice, slice]:
    heart = np.asarray(np.isin(labels, (LV, MYO)).any(axis=0))
    sides = np.flatnonzero(heart.any(axis=1)), np.flatnonzero(heart.any(axis=0))
    rows, columns = (slice(max(0, int(side[0]) - MARGIN), int(side[-1]) + MARGIN + 1) for side in sides)
    return rows, columns
