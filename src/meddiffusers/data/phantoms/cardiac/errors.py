"""Mistakes that segmentation networks make on single frames, put into clean label maps with a record of each.

hole_lv, hole_myo     a hole of another label inside the cavity, inside the wall
jump, rotate          the whole heart displaced, or turned about its middle
lv_over, lv_under     the cavity grown into the wall, or the wall into the cavity
leak                  the cavity spills through the wall into the background
fragment              a loose piece of cavity or wall in the background
apex_cut              the apex missing
missing_myo           the wall missing on one side, over part of its length
border_noise          all borders ragged

Lengths are in mm, so that an error is as large on any grid. Labels: 1 cavity, 2 wall, 3 atrium.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from meddiffusers.data.phantoms.cardiac.error_kinds import ERRORS, Parameters
from meddiffusers.data.phantoms.cardiac.labels import CAVITY, WALL

ERROR_KINDS = tuple(ERRORS)
_TRIES = 50


@dataclass(frozen=True)
class InjectedError:
    """Which frame was spoilt, by which kind of error, with what numbers: mm, degrees, labels."""

    frame: int
    kind: str
    parameters: Parameters


def corrupted(
    sequence: np.ndarray, spacing: float, seed: int, rate: float, kinds: Sequence[str] | None = None
) -> tuple[np.ndarray, list[InjectedError]]:
    """A copy of label maps (F, H, W), each frame spoilt with probability `rate` by one of the kinds, and the record.

    spacing: mm; kinds: of `ERROR_KINDS`, all by default, equally likely. Frames outside the record are untouched, all
    others differ from what they were.

    Raises:
        ValueError: another number of axes, a spacing not above 0, a rate outside [0, 1], no kind or an unknown one, a
            frame without cavity or wall.
    """
    kinds = ERROR_KINDS if kinds is None else tuple(kinds)
    _check(sequence, spacing, rate, kinds)
    rng = np.random.default_rng(seed)
    result, record = sequence.copy(), []
    for index, frame in enumerate(sequence):
        if rng.random() < rate:
            kind = kinds[rng.integers(len(kinds))]
            result[index], parameters = spoilt(frame, kind, spacing, rng)
            record.append(InjectedError(index, kind, parameters))
    return result, record


def spoilt(frame: np.ndarray, kind: str, spacing: float, rng: np.random.Generator) -> tuple[np.ndarray, Parameters]:
    """One frame (H, W) with one error, and its numbers; drawn again where so coarse a grid does not show it."""
    for _ in range(_TRIES):
        wrong, parameters = ERRORS[kind](frame, spacing, rng)
        if not np.array_equal(wrong, frame):
            return wrong, parameters
    raise ValueError(f"A frame shows no {kind} in {_TRIES} tries; expected pixels finer than {spacing} mm.")


def _check(sequence: np.ndarray, spacing: float, rate: float, kinds: Sequence[str]) -> None:
    if sequence.ndim != 3:
        raise ValueError(f"Label maps to be spoilt have shape {sequence.shape}; expected (F, H, W).")
    if not spacing > 0 or not 0 <= rate <= 1:
        raise ValueError(f"Got spacing = {spacing} and rate = {rate}; expected mm above 0, and 0 to 1.")
    unknown = set(kinds) - set(ERROR_KINDS)
    if unknown or not kinds:
        raise ValueError(
            f"Got the error kinds {', '.join(kinds) or 'none'}; expected some of {', '.join(ERROR_KINDS)}."
        )
    for index, frame in enumerate(sequence):
        if not (frame == CAVITY).any() or not (frame == WALL).any():
            raise ValueError(f"Frame {index} has no cavity (1) or no wall (2); expected clean label maps.")
