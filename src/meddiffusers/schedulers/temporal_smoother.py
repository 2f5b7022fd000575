"""What is steady in a moving heart: how far attributes may bend, which frames do not fit, and how signals are smoothed.

Painchaud et al., IEEE TMI 2022 ("Echocardiography segmentation with enforced temporal consistency"), whose measure of
consistency this is; of an attribute a in frames t = 0 … T − 1, scaled by its `ranges` to about [0, 1],

    e_t = a_t − (a_{t−1} + a_{t+1}) / 2,    0 at both ends;    consistent where |e_t| ≤ τ

| symbol | here | shape |
|---|---|---|
| a | `attributes` | (T, A), in their own units |
| τ | `limits` | one for each attribute: the largest |e| of reference sequences |
| z | `signals`: latents, each dimension a signal over time | (T, K) |
| w | `weights` of smoothness, 0 … `max_weight` | (K,) |
| c | `confidence` in a frame, 0 … 1 | (T,) |
| s | smoothed signals | (T, K) |

`smooth` minimises Σ c_t (s_t − z_t)² + w/2 Σ (s_t − s_{t−1})². With c = 1 this is where the paper's iteration ends, the
solution of (1 + w) s_t − w/2 (s_{t−1} + s_{t+1}) = z_t, with 1 + w/2 at the ends. Its modes are found once, so that
any w costs a product of matrices, and the smallest w that meets a limit is found to all digits.

`order=2` has the second differences in place of the first: noise goes, and a peak is flattened less.

`filled` minimises Σ (s_{t−1} − 2 s_t + s_{t+1})² over the missing frames, all others kept as they are: a curve without
the bend that e measures, which unlike the first differences above does not flatten a peak.

A cycle's last frame shows the heart as its first did; with `cyclic` the bend is measured across that seam too.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin

PUBLISHED_AS = "meddiffusers_temporal_smoother_v1"  # library name in model_index.json, file name of a copy
PAPER_LIMITS = {
    "lv_area": 0.0160,
    "lv_length": 0.0262,
    "base_width": 0.0969,
    "orientation": 0.0229,
    "myo_area": 0.0321,
    "epi_x": 0.00456,
    "epi_y": 0.0110,
}
LEAST_CONFIDENCE = 1e-3
RUNS, LEAST_GAIN = (1, 2, 3), 0.05  # frames that are tried together; of the limit, for a frame to be left out
GRID, PARTS, ROUNDS = 32, 16, 7  # of the search for a weight: at first, and how often each interval is divided


class TemporalSmoother(SchedulerMixin, ConfigMixin):
    """Limits of consistency, and the smoothing that meets them. It has no weights: diffusers keeps it as a scheduler.

    Configuration:
        attributes: their names, in order; the paper's seven by default.
        limits: τ of each; the paper's by default.
        ranges: [low, high] of each attribute in its own unit, by which it is scaled.
        latent_limits: the largest |e| of each latent dimension in reference sequences, in the latent's own unit.
        frames: of a beat in those sequences. A cycle of fewer may bend more, as the square of its step.
        agreement: the least Dice of a reference frame and what the VAE makes of it.
        max_weight: the largest w that is tried.
        residual_weight: w of latent dimensions without an attribute, where the paper's way of smoothing is asked for.

    Raises:
        ValueError: limits that are not above 0, ranges that are empty or of other attributes.
    """

    config_name = "smoother_config.json"  # type: ignore[assignment]

    @register_to_config
    def __init__(
        self,
        attributes: Sequence[str] = tuple(PAPER_LIMITS),
        limits: Mapping[str, float] | None = None,
        ranges: Mapping[str, Sequence[float]] | None = None,
        latent_limits: Sequence[float] | None = None,
        frames: int = 25,
        agreement: float = 0.0,
        max_weight: float = 128.0,
        residual_weight: float = 50.0,
    ) -> None:
        self.__module__ = PUBLISHED_AS  # what diffusers writes as this component's library
        limits = PAPER_LIMITS if limits is None else limits
        self.register_to_config(attributes=list(attributes), limits=dict(limits))
        wrong = [name for name, limit in limits.items() if not limit > 0]
        if set(limits) != set(attributes):
            raise ValueError(f"limits are of {', '.join(limits)}; expected one of each of {', '.join(attributes)}.")
        if wrong or not max_weight > 0:
            raise ValueError(
                f"limits of {', '.join(wrong) or 'no attribute'} and max_weight={max_weight}; expected above 0."
            )
        if ranges is not None and (set(ranges) != set(limits) or any(low >= high for low, high in ranges.values())):
            raise ValueError(
                f"ranges are {dict(ranges)}; expected [low, high] with low below high for each of {', '.join(limits)}."
            )

    @classmethod
    def fitted(
        cls,
        attributes: Sequence[np.ndarray],
        names: Sequence[str],
        latents: Sequence[np.ndarray] = (),
        agreement: float = 0.0,
        **settings: Any,
    ) -> TemporalSmoother:
        """Limits from reference sequences, the attributes (T, A) and latents (T, K) of each.

        Raises:
            ValueError: no sequence of three frames, attributes that are not finite, or one that never changes.
        """
        long = [each for each in attributes if len(each) > 2]
        if not long or not all(np.isfinite(each).all() for each in long):
            raise ValueError(
                f"Got {len(long)} sequences of three frames or more; expected some, with finite attributes, "
                "to learn the limits from."
            )
        together = np.concatenate(long)
        low, high = together.min(axis=0), together.max(axis=0)
        largest = np.max([np.abs(bends(each)).max(axis=0) for each in long], axis=0) / np.maximum(high - low, 1e-12)
        if not (largest > 0).all():
            still = [name for name, limit in zip(names, largest, strict=True) if not limit > 0]
            raise ValueError(f"{', '.join(still)} never changes in the reference sequences. Leave it out.")
        of_latents = [np.abs(bends(each)).max(axis=0) for each in latents if len(each) > 2]
        return cls(
            attributes=list(names),
            limits={name: float(limit) for name, limit in zip(names, largest, strict=True)},
            ranges={name: [float(low[i]), float(high[i])] for i, name in enumerate(names)},
            latent_limits=np.max(of_latents, axis=0).tolist() if of_latents else None,
            frames=int(np.median([len(each) for each in long])),
            agreement=float(agreement),
            **settings,
        )

    @property
    def attributes(self) -> tuple[str, ...]:
        """Their names, in order."""
        return tuple(self.config["attributes"])

    def excess(self, attributes: np.ndarray, cyclic: bool = False) -> np.ndarray:
        """(T, A) |e| / τ of attributes (T, A): above 1 where a frame is inconsistent, NaN where e is unknown."""
        if self.config["ranges"] is None:
            raise ValueError("This smoother has no ranges of the attributes. Fit it: TemporalSmoother.fitted(…).")
        spans = np.array([high - low for low, high in (self.config["ranges"][name] for name in self.attributes)])
        limits = np.array([self.config["limits"][name] for name in self.attributes])
        steps = (self.config["frames"] - 1) / max(len(attributes) - 1, 1) if cyclic else 1.0
        return np.abs(bends(attributes, cyclic)) / (spans * limits * max(steps, 1.0) ** 2)

    def misfits(self, attributes: np.ndarray, suspected: np.ndarray, cyclic: bool = False) -> np.ndarray:
        """(T,) bool: the suspected frames, and as few others as let the rest be consistent.

        Of single frames and runs of up to three that one is taken, again and again, whose replacement by `filled` takes
        away the most of what exceeds the limits for each of its frames; then each frame that turns out not to have been
        needed is given back.
        """
        certain = suspected | ~np.isfinite(attributes).all(axis=1)
        missing, left = certain, self._left(attributes, certain, cyclic)
        starts = {length: range(len(missing) - (0 if cyclic else length - 1)) for length in RUNS}
        runs = [_run(len(missing), start, length) for length in RUNS for start in starts[length]]
        while left > 0:
            trials = [missing | run for run in runs if (~missing & run).any() and (~(missing | run)).sum() > 1]
            if not trials:
                break
            gains = [(left - self._left(attributes, trial, cyclic)) / (trial & ~missing).sum() for trial in trials]
            if max(gains) < LEAST_GAIN:
                break
            missing = trials[int(np.argmax(gains))]
            left = self._left(attributes, missing, cyclic)
        for t in np.flatnonzero(missing & ~certain):
            without = missing & (np.arange(len(missing)) != t)
            if self._left(attributes, without, cyclic) <= left:
                missing = without
        return missing

    def _left(self, attributes: np.ndarray, missing: np.ndarray, cyclic: bool) -> float:
        """By how much the limits are exceeded, summed over frames and attributes, with missing frames filled in."""
        known = np.where(missing[:, None], 0, attributes)
        return float(np.clip(self.excess(self.filled(known, missing, cyclic), cyclic) - 1, 0, None).sum())

    @staticmethod
    def filled(signals: np.ndarray, missing: np.ndarray, cyclic: bool = False) -> np.ndarray:
        """Signals (T, K) with the missing frames (T,) replaced by the curve that bends least.

        Raises:
            ValueError: fewer than two frames that are not missing.
        """
        count = len(signals)
        if (~missing).sum() < 2:
            raise ValueError(f"{int(missing.sum())} of {count} frames are missing; expected at least two that are not.")
        if not missing.any():
            return signals.copy()
        rows = _differences(count, 2, cyclic)
        result = signals.astype(float)
        result[missing] = np.linalg.lstsq(rows[:, missing], -rows[:, ~missing] @ signals[~missing], rcond=None)[0]
        return result

    def smooth(
        self,
        signals: np.ndarray,
        weights: np.ndarray | float,
        confidence: np.ndarray | None = None,
        order: int = 1,
        cyclic: bool = False,
    ) -> np.ndarray:
        """Smoothed signals (T, K), each by its own weight."""
        back, decay, forth = _modes(confidence, _differences(len(signals), order, cyclic))
        weights = np.broadcast_to(np.asarray(weights, float), signals.shape[1:])
        return back @ ((forth @ signals) / (1 + np.outer(decay, weights)))

    def smallest_weights(
        self, signals: np.ndarray, limits: np.ndarray | Sequence[float], confidence: np.ndarray | None = None
    ) -> np.ndarray:
        """(K,) the smallest weight by which each signal's |e| is at most its limit; `max_weight` where none does."""
        limits = np.asarray(limits, float)
        back, decay, forth = _modes(confidence, _differences(len(signals), 1, False))
        bent = bends(back)
        amplitudes = forth @ signals

        def exceeds(weights: np.ndarray) -> np.ndarray:
            """(W, K), of weights (W, K)."""
            kept = amplitudes[:, None] / (1 + decay[:, None, None] * weights)
            e = bent @ kept.reshape(len(decay), -1)
            return np.abs(e).max(axis=0).reshape(weights.shape) > limits * (1 + 1e-12)

        top = self.config["max_weight"]
        grid = np.concatenate([[0.0], np.geomspace(1e-4, top, GRID)])
        met = ~exceeds(np.repeat(grid[:, None], signals.shape[1], axis=1))
        first = np.where(met.any(axis=0), met.argmax(axis=0), len(grid) - 1)
        high, low = grid[first], grid[np.maximum(first - 1, 0)]
        searched = (first > 0) & met.any(axis=0)
        shares, columns = np.linspace(0, 1, PARTS + 1)[:, None], np.arange(len(low))
        for _ in range(ROUNDS if searched.any() else 0):
            edges = low + (high - low) * shares
            over = exceeds(edges[1:])
            over[-1] = False  # as is known
            part = over.argmin(axis=0)
            low, high = edges[part, columns], edges[part + 1, columns]
        return np.where(searched, high, grid[first])

    def to_json_string(self) -> str:
        """The configuration as JSON, without the folder it happened to be loaded from."""
        config = json.loads(super().to_json_string())
        config.pop("_name_or_path", None)
        return json.dumps(config, indent=2, sort_keys=True) + "\n"

    def save_config(self, save_directory: str | PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write the configuration and this file, so that the repository opens where the package is not installed."""
        super().save_config(save_directory, push_to_hub=push_to_hub, **kwargs)
        shutil.copyfile(__file__, Path(save_directory, f"{PUBLISHED_AS}.py"))


def bends(signals: np.ndarray, cyclic: bool = False) -> np.ndarray:
    """e (T, K) of signals (T, K); at the ends 0, or across the seam of a cycle whose last frame is its first again."""
    e = np.zeros(signals.shape)
    e[1:-1] = signals[1:-1] - (signals[:-2] + signals[2:]) / 2
    if cyclic and len(signals) > 3:
        e[0] = signals[0] - (signals[-2] + signals[1]) / 2
        e[-1] = signals[-1] - (signals[-2] + signals[1]) / 2
    return e


def _differences(count: int, order: int, cyclic: bool) -> np.ndarray:
    """(R, T): the first or second differences of T frames, across the seam of a cycle too, and of its two ends."""
    rows = np.diff(np.eye(count), n=order, axis=0)
    if not cyclic or count < 4:
        return rows
    ends = np.eye(1, count) - np.eye(1, count, count - 1)
    return np.concatenate([rows, *([-2 * bends(np.eye(count), cyclic)[[0, -1]]] if order == 2 else []), ends])


def _run(count: int, start: int, length: int) -> np.ndarray:
    """(T,) bool, true in so many frames from one on, and after the last from the first on."""
    return (np.arange(count) - start) % count < length


def _modes(confidence: np.ndarray | None, differences: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """B (T, T), λ (T,), F (T, T) with s(w) = B diag(1 / (1 + w λ)) F z.

    With D the `differences`, P = DᵀD / 2 and C = diag(c): (C + w P) s = C z, and C^−½ P C^−½ = U λ Uᵀ.
    """
    c = (
        np.ones(differences.shape[1])
        if confidence is None
        else np.clip(np.asarray(confidence, float), LEAST_CONFIDENCE, None)
    )
    scale = np.sqrt(c)
    decay, modes = np.linalg.eigh(differences.T @ differences / 2 / np.outer(scale, scale))
    return modes / scale[:, None], np.clip(decay, 0, None), (modes * scale[:, None]).T
