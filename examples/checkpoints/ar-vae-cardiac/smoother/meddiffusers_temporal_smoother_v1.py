"""Temporal consistency of cardiac sequences: limits of second differences, and smoothing of latents.

The measure of consistency is that of Painchaud et al., IEEE TMI 2022, "Echocardiography segmentation with enforced
temporal consistency". For an attribute a in frames t = 0 … T − 1, scaled by its range in reference sequences to [0, 1],

    e_t = a_t − (a_{t−1} + a_{t+1}) / 2,    0 at both ends;    frame t is consistent if |e_t| ≤ τ + g·pixel

Coarse pixels cause second differences of their own, which grow with the edge length of a pixel.

| symbol | here | shape |
|---|---|---|
| a | `attributes` in their own units | (T, A) |
| e | `second_differences`, scaled by −1/2 | (T, A) |
| τ | `limits`, one for each attribute: the largest |e| in reference sequences | (A,) |
| g | `grid_limits`: by how much the limits grow with the edge length of a pixel | (A,) |
| |e| / (τ + g·pixel) | `consistency_ratio` | (T, A) |
| z | `signals`: latents, each dimension a signal over time | (T, K) |
| w | `weights` of smoothness, 0 … `max_weight` | (K,) |
| c | `confidence` in a frame, 0 … 1 | (T,) |
| s | smoothed signals | (T, K) |

`smooth` minimises Σ c_t (s_t − z_t)² + w/2 Σ (s_t − s_{t−1})². For c = 1 the solution is the fixed point of the paper's
iteration, (1 + w) s_t − w/2 (s_{t−1} + s_{t+1}) = z_t, with 1 + w/2 at the ends. One eigendecomposition serves all w:
each of them then costs one matrix product, and the smallest w that meets a limit is found to machine precision.

`order=2` penalises second instead of first differences, which removes noise and flattens peaks less.

`interpolate_missing` minimises Σ (s_{t−1} − 2 s_t + s_{t+1})² over the missing frames and keeps all others. The first
differences above would flatten a peak; the second differences, which e measures, do not.

In a cardiac cycle whose last frame shows the same phase as its first (`cyclic`), e is also measured across that seam.
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
MIN_CONFIDENCE = 1e-3
HALF_CYCLE = 0.5  # of a cycle; the part that a sequence shows if its last frame is far from its first
GRID, PARTS, ROUNDS = 32, 16, 7  # search for a weight: points of the grid, parts of an interval, subdivisions


class TemporalSmoother(SchedulerMixin, ConfigMixin):
    """Limits of temporal consistency, and the smoothing that meets them (Painchaud et al., IEEE TMI 2022).

    It has no weights, so that a diffusers pipeline stores it as a scheduler.

    Args:
        attributes: Names of the attributes, in order. Default: the seven of the paper.
        limits: Limit τ of each attribute, as a fraction of its range. Default: those of the paper.
        ranges: `[low, high]` of each attribute in its own unit.
        grid_limits: Further |e| of each attribute that a pixel of 1 mm allows, in the attribute's unit. Default: none.
        latent_limits: Largest |e| of each latent dimension in the reference sequences, in units of the latent.
        cycle_frames: Number of frames of a cardiac cycle in the reference sequences. In a cycle of fewer frames the
            limits grow with the square of the time step.
        min_reconstruction_dice: Smallest Dice coefficient between a reference frame and its reconstruction by the VAE.
        max_weight: Largest weight w that is tried.
        residual_weight: Weight w of latent dimensions without an attribute, for smoothing as in the paper.

    Raises:
        ValueError: If limits are not positive, or limits or ranges do not fit the attributes, or a range is empty.

    Example:
        >>> smoother = TemporalSmoother.from_references(attributes, names, latents)  # lists of (T, A) and (T, K)
        >>> ratio = smoother.consistency_ratio(attributes[0])  # (T, A), at most 1 in references
    """

    config_name = "smoother_config.json"  # type: ignore[assignment]

    @register_to_config
    def __init__(
        self,
        attributes: Sequence[str] = tuple(PAPER_LIMITS),
        limits: Mapping[str, float] | None = None,
        ranges: Mapping[str, Sequence[float]] | None = None,
        grid_limits: Mapping[str, float] | None = None,
        latent_limits: Sequence[float] | None = None,
        cycle_frames: int = 25,
        min_reconstruction_dice: float = 0.0,
        max_weight: float = 128.0,
        residual_weight: float = 50.0,
    ) -> None:
        self.__module__ = PUBLISHED_AS  # what diffusers writes as this component's library
        limits = PAPER_LIMITS if limits is None else limits
        self.register_to_config(attributes=list(attributes), limits=dict(limits))
        not_positive = [name for name, limit in limits.items() if not limit > 0]
        if set(limits) != set(attributes):
            raise ValueError(f"limits are of {', '.join(limits)}; expected one of each of {', '.join(attributes)}.")
        if not_positive or not max_weight > 0:
            raise ValueError(
                f"limits of {', '.join(not_positive) or 'no attribute'} and max_weight={max_weight}; expected above 0."
            )
        if ranges is not None and (set(ranges) != set(limits) or any(low >= high for low, high in ranges.values())):
            raise ValueError(
                f"ranges are {dict(ranges)}; expected [low, high] with low below high for each of {', '.join(limits)}."
            )

    @classmethod
    def from_references(
        cls,
        attributes: Sequence[np.ndarray],
        names: Sequence[str],
        latents: Sequence[np.ndarray] = (),
        min_reconstruction_dice: float = 0.0,
        pixels: Sequence[float] = (),
        margin: float = 1.0,
        **kwargs: Any,
    ) -> TemporalSmoother:
        """Build a smoother whose limits are the largest |e| in reference sequences.

        Where the references differ in the size of their pixels, the limits τ are those of the third with the smallest
        pixels, and g is what the others need in addition.

        Args:
            attributes: Attributes `(T, A)` of each sequence, in their own units.
            names: Names of the A attributes.
            latents: Latents `(T, K)` of each sequence.
            min_reconstruction_dice: As in the constructor.
            pixels: Edge length in mm of the pixels of each sequence. Default: equal ones.
            margin: Factor of the limits of attributes, for references that move more evenly than what is corrected.
            kwargs: Further arguments of the constructor.

        Raises:
            ValueError: If no sequence has three frames, attributes are not finite, or an attribute never changes.
        """
        edges = np.asarray(pixels if len(pixels) else np.ones(len(attributes)), float)
        edges = edges[[len(each) > 2 for each in attributes]]
        references = [each for each in attributes if len(each) > 2]
        if not references or not all(np.isfinite(each).all() for each in references):
            raise ValueError(
                f"Got {len(references)} sequences of three frames or more; expected some, with finite attributes, "
                "to derive the limits from."
            )
        pooled = np.concatenate(references)
        low, high = pooled.min(axis=0), pooled.max(axis=0)
        largest = np.array([np.abs(second_differences(each)).max(axis=0) for each in references])
        limits = largest[edges <= np.quantile(edges, 1 / 3)].max(axis=0)
        grid = np.clip((largest - limits) / edges[:, None], 0, None).max(axis=0)
        limits, grid = margin * limits / np.maximum(high - low, 1e-12), margin * grid
        if not (limits > 0).all():
            constant = [name for name, limit in zip(names, limits, strict=True) if not limit > 0]
            raise ValueError(f"{', '.join(constant)} never changes in the reference sequences. Leave it out.")
        latent_limits = [np.abs(second_differences(each)).max(axis=0) for each in latents if len(each) > 2]
        return cls(
            attributes=list(names),
            limits={name: float(limit) for name, limit in zip(names, limits, strict=True)},
            ranges={name: [float(low[i]), float(high[i])] for i, name in enumerate(names)},
            grid_limits={name: float(each) for name, each in zip(names, grid, strict=True)},
            latent_limits=np.max(latent_limits, axis=0).tolist() if latent_limits else None,
            cycle_frames=int(np.median([len(each) for each in references])),
            min_reconstruction_dice=float(min_reconstruction_dice),
            **kwargs,
        )

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names of the attributes, in order."""
        return tuple(self.config["attributes"])

    def consistency_ratio(self, attributes: np.ndarray, cyclic: bool = False, pixel: float = 0.0) -> np.ndarray:
        """Compute |e| over its limit.

        The limit τ is that of the time step of the references. For a longer step it grows with the step's square. A
        sequence whose last frame is far from its first is taken for half a cycle, any other one for a whole cycle.

        Args:
            attributes: Attributes `(T, A)` in their own units.
            cyclic: Whether the last frame shows the same phase of the cardiac cycle as the first.
            pixel: Edge length of a pixel in mm.

        Returns:
            Ratios `(T, A)`: above 1 where a frame is inconsistent, NaN where e is not defined.

        Raises:
            ValueError: If the smoother has no ranges.
        """
        if self.config["ranges"] is None:
            raise ValueError(
                "This smoother has no ranges of the attributes. Fit it: TemporalSmoother.from_references(…)."
            )
        spans = np.array([high - low for low, high in (self.config["ranges"][name] for name in self.attributes)])
        limits = np.array([self.config["limits"][name] for name in self.attributes])
        grid = np.array([(self.config["grid_limits"] or {}).get(name, 0.0) for name in self.attributes])
        part = 1.0 if cyclic or _returns(attributes / spans) else HALF_CYCLE
        step = max(part * (self.config["cycle_frames"] - 1) / max(len(attributes) - 1, 1), 1.0)
        return np.abs(second_differences(attributes, cyclic)) / (spans * limits * step**2 + grid * pixel)

    @staticmethod
    def interpolate_missing(signals: np.ndarray, missing: np.ndarray, cyclic: bool = False) -> np.ndarray:
        """Replace missing frames by the curve of least squared second differences.

        Args:
            signals: Signals `(T, K)`; their values in missing frames are ignored.
            missing: Mask `(T,)`, bool, of the missing frames.
            cyclic: As in `consistency_ratio`.

        Returns:
            Signals `(T, K)`, unchanged in all other frames.

        Raises:
            ValueError: If fewer than two frames are not missing.
        """
        count = len(signals)
        if (~missing).sum() < 2:
            raise ValueError(f"{int(missing.sum())} of {count} frames are missing; expected at least two that are not.")
        if not missing.any():
            return signals.copy()
        rows = _difference_matrix(count, 2, cyclic)
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
        """Smooth each signal over time.

        Args:
            signals: Signals `(T, K)`.
            weights: Weight w of each signal `(K,)`, or one for all.
            confidence: Confidence c in each frame `(T,)`, in [0, 1]. Default: 1.
            order: Order of the differences that are penalised, 1 (the paper's) or 2.
            cyclic: As in `consistency_ratio`.

        Returns:
            Smoothed signals `(T, K)`.
        """
        back, decay, forth = _modes(confidence, _difference_matrix(len(signals), order, cyclic))
        weights = np.broadcast_to(np.asarray(weights, float), signals.shape[1:])
        return back @ ((forth @ signals) / (1 + np.outer(decay, weights)))

    def smallest_weights(
        self, signals: np.ndarray, limits: np.ndarray | Sequence[float], confidence: np.ndarray | None = None
    ) -> np.ndarray:
        """Find the smallest weight with which each smoothed signal meets its limit.

        Args:
            signals: Signals `(T, K)`.
            limits: Largest allowed |e| of each signal `(K,)`, in its own unit.
            confidence: As in `smooth`.

        Returns:
            Weights `(K,)`; `max_weight` for signals that no weight makes consistent.
        """
        limits = np.asarray(limits, float)
        back, decay, forth = _modes(confidence, _difference_matrix(len(signals), 1, False))
        modes_e = second_differences(back)
        amplitudes = forth @ signals

        def exceeds(weights: np.ndarray) -> np.ndarray:
            """Whether limits are exceeded, (W, K), with weights (W, K)."""
            damped = amplitudes[:, None] / (1 + decay[:, None, None] * weights)
            e = modes_e @ damped.reshape(len(decay), -1)
            return np.abs(e).max(axis=0).reshape(weights.shape) > limits * (1 + 1e-12)

        grid = np.concatenate([[0.0], np.geomspace(1e-4, self.config["max_weight"], GRID)])
        met = ~exceeds(np.repeat(grid[:, None], signals.shape[1], axis=1))
        first = np.where(met.any(axis=0), met.argmax(axis=0), len(grid) - 1)
        high, low = grid[first], grid[np.maximum(first - 1, 0)]
        refined = (first > 0) & met.any(axis=0)
        fractions, columns = np.linspace(0, 1, PARTS + 1)[:, None], np.arange(len(low))
        for _ in range(ROUNDS if refined.any() else 0):
            edges = low + (high - low) * fractions
            over = exceeds(edges[1:])
            over[-1] = False  # the upper end meets the limit
            part = over.argmin(axis=0)
            low, high = edges[part, columns], edges[part + 1, columns]
        return np.where(refined, high, grid[first])

    def to_json_string(self) -> str:
        """Return the configuration as JSON, without the folder that it was loaded from."""
        config = json.loads(super().to_json_string())
        config.pop("_name_or_path", None)
        return json.dumps(config, indent=2, sort_keys=True) + "\n"

    def save_config(self, save_directory: str | PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write the configuration and this file, so that the repository opens where the package is not installed."""
        super().save_config(save_directory, push_to_hub=push_to_hub, **kwargs)
        shutil.copyfile(__file__, Path(save_directory, f"{PUBLISHED_AS}.py"))


def second_differences(signals: np.ndarray, cyclic: bool = False) -> np.ndarray:
    """Compute e_t = s_t − (s_{t−1} + s_{t+1}) / 2, the second difference times −1/2.

    Args:
        signals: Signals `(T, K)`.
        cyclic: Whether the last frame shows the same phase as the first. Then e is measured across the seam too;
            otherwise it is 0 at both ends.

    Returns:
        e, `(T, K)`.
    """
    e = np.zeros(signals.shape)
    e[1:-1] = signals[1:-1] - (signals[:-2] + signals[2:]) / 2
    if cyclic and len(signals) > 3:
        e[0] = signals[0] - (signals[-2] + signals[1]) / 2
        e[-1] = signals[-1] - (signals[-2] + signals[1]) / 2
    return e


def _difference_matrix(count: int, order: int, cyclic: bool) -> np.ndarray:
    """First or second differences of T frames as a matrix (R, T); with `cyclic` also across the seam.

    A last row with `cyclic` is the difference of the first and the last frame, which show one phase.
    """
    rows = np.diff(np.eye(count), n=order, axis=0)
    if not cyclic or count < 4:
        return rows
    ends = np.eye(1, count) - np.eye(1, count, count - 1)
    seam = [-2 * second_differences(np.eye(count), cyclic)[[0, -1]]] if order == 2 else []
    return np.concatenate([rows, *seam, ends])


def _returns(signals: np.ndarray) -> bool:
    """Whether the last frame is nearer to the first than most of the others are, as after a whole cycle."""
    distance = np.linalg.norm(np.nan_to_num(signals - signals[:1]), axis=1)
    return bool(distance[-1] <= np.quantile(distance, 0.8) / 2)


def _modes(confidence: np.ndarray | None, differences: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """B (T, T), λ (T,), F (T, T) with s(w) = B diag(1 / (1 + w λ)) F z.

    With D the `differences`, P = DᵀD / 2 and C = diag(c): (C + w P) s = C z, and C^−½ P C^−½ = U λ Uᵀ.
    """
    c = (
        np.ones(differences.shape[1])
        if confidence is None
        else np.clip(np.asarray(confidence, float), MIN_CONFIDENCE, None)
    )
    scale = np.sqrt(c)
    decay, modes = np.linalg.eigh(differences.T @ differences / 2 / np.outer(scale, scale))
    return modes / scale[:, None], np.clip(decay, 0, None), (modes * scale[:, None]).T
