"""How far the jitter of segmented borders moves an ejection fraction.

Published pipelines import this file from beside them. It is published with each of these pipelines.

A smooth curve s is fitted to the volumes v of a sequence (`fit_signal`). The deviation σ of v from s is the jitter.
With noise of this deviation, both v = s + σε and the smooth curve through it have an ejection fraction. That of v is
too large, since the largest of several volumes is taken for end diastole and the smallest for end systole.
"""

from __future__ import annotations

import numpy as np

from .meddiffusers_cardiac_motion_v1 import fit_signal

PUBLISHED_AS = "meddiffusers_cardiac_ejection_v1"  # the file has the same name in a repository
DRAWS, QUANTILES = 1000, (0.01, 0.99)
LEAST_CHANGE = 0.01  # of an ejection fraction that is worth a warning
MIN_FRAMES = 6  # fewer tell no jitter from motion
OUTLIER = 3.5  # deviations


def ejection_fraction_interval(volumes: np.ndarray, cyclic: bool) -> tuple[float, float]:
    """Compute the interval of ejection fractions, of the smooth curve and of the volumes, that jitter explains.

    Args:
        volumes: Volumes `(T,)` in ml; NaN are left out, as are volumes that the others do not explain.
        cyclic: Whether the last frame shows the same phase of the cardiac cycle as the first.

    Returns:
        1 and 99 % quantiles, the lower and the upper one of both curves, between which the true fraction of simulated
        cycles lies in about nine of ten; NaN with fewer than six volumes.
    """
    kept = np.isfinite(volumes)
    if kept.sum() < MIN_FRAMES:
        return float("nan"), float("nan")
    values = np.where(kept, volumes, 0)
    for _ in range(3):
        matrix = fit_signal(values, kept, cyclic)
        rest = np.eye(len(values)) - matrix
        residual = rest @ values / np.maximum(np.linalg.norm(rest, axis=1), 1e-3)
        deviation = 1.4826 * np.median(np.abs(residual[kept]))
        agreeing = np.isfinite(volumes) & (np.abs(residual) <= max(OUTLIER * deviation, 1e-9))
        if (agreeing == kept).all() or agreeing.sum() < MIN_FRAMES:
            break
        kept = agreeing
    smooth = matrix @ values
    deviation = np.sqrt(np.mean(residual[kept] ** 2))
    noise = deviation * np.random.default_rng(0).standard_normal((DRAWS, len(volumes)))
    curves = np.stack([smooth + noise, smooth + noise @ matrix.T])
    curves = np.maximum(curves, 1e-3)
    fractions = 1 - curves.min(axis=2) / curves.max(axis=2)
    low, high = np.quantile(fractions, QUANTILES, axis=1)
    return float(low.min()), float(high.max())


def ejection_fraction_messages(fractions: tuple[float, float], interval: tuple[float, float]) -> list[str]:
    """Say that an ejection fraction changed by more than the jitter of the borders explains; empty if it did not.

    Args:
        fractions: Before and after a correction.
        interval: Of `ejection_fraction_interval`, before the correction.
    """
    (before, after), (low, high) = fractions, interval
    within = low <= before <= high and low <= after <= high
    if within or abs(before - after) < LEAST_CHANGE or not np.isfinite([before, after, low]).all():
        return []
    return [
        f"The ejection fraction changed from {100 * before:.0f} to {100 * after:.0f} %, by more than the jitter of the "
        f"borders explains ({100 * low:.0f} to {100 * high:.0f} %). Look at the changed frames before you use it."
    ]
