"""Injection of typical segmentation errors into single frames of label maps, with a record of each error.

| kind | error |
|---|---|
| hole_lv, hole_myo | a hole of another label in the LV, in the myocardium |
| jump, rotate | the whole heart displaced, or rotated about its centre |
| lv_over, lv_under | the LV grown into the myocardium, or the myocardium into the LV |
| leak | the LV leaks through the myocardium into the background |
| fragment | a separate piece of LV or myocardium in the background |
| apex_cut | the apex missing |
| missing_myo | the myocardium missing on one side, over part of its length |
| border_noise | all borders ragged |

Lengths are in mm, so that errors have the same size on any grid. Labels: 1 LV, 2 myocardium, 3 left atrium.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from meddiffusers.data.phantoms.cardiac.error_kinds import ERRORS, Parameters
from meddiffusers.data.phantoms.cardiac.labels import LV, MYO

ERROR_KINDS = tuple(ERRORS)
_TRIES = 50


@dataclass(frozen=True)
class InjectedError:
    """Record of an error.

    Args:
        frame: Index of the frame.
        kind: One of `ERROR_KINDS`.
        parameters: Parameters of the error, in mm, degrees or labels.
    """

    frame: int
    kind: str
    parameters: Parameters


def corrupt_sequence(
    sequence: np.ndarray, spacing: float, seed: int, rate: float, kinds: Sequence[str] | None = None
) -> tuple[np.ndarray, list[InjectedError]]:
    """Inject errors into frames of a sequence.

    Args:
        sequence: Label maps `(T, H, W)`.
        spacing: Edge length of a pixel in mm.
        seed: Seed of the errors.
        rate: Probability that a frame gets an error.
        kinds: Kinds of errors, of `ERROR_KINDS`, with equal probability. Default: all.

    Returns:
        A copy of the label maps, and the record of errors. Recorded frames differ from the input; others do not.

    Raises:
        ValueError: If the number of axes is not 3, the spacing is not positive, the rate is outside [0, 1], a kind is
            unknown or none is given, or a frame has no LV or no myocardium.
    """
    kinds = ERROR_KINDS if kinds is None else tuple(kinds)
    _check(sequence, spacing, rate, kinds)
    rng = np.random.default_rng(seed)
    result, record = sequence.copy(), []
    for t, frame in enumerate(sequence):
        if rng.random() < rate:
            kind = kinds[rng.integers(len(kinds))]
            result[t], parameters = corrupt_frame(frame, kind, spacing, rng)
            record.append(InjectedError(t, kind, parameters))
    return result, record


def corrupt_frame(
    frame: np.ndarray, kind: str, spacing: float, rng: np.random.Generator
) -> tuple[np.ndarray, Parameters]:
    """Inject one error into a label map (H, W); sampled again if it changes no pixel of a coarse grid."""
    for _ in range(_TRIES):
        corrupted, parameters = ERRORS[kind](frame, spacing, rng)
        if not np.array_equal(corrupted, frame):
            return corrupted, parameters
    raise ValueError(f"A frame shows no {kind} in {_TRIES} tries; expected pixels finer than {spacing} mm.")


def _check(sequence: np.ndarray, spacing: float, rate: float, kinds: Sequence[str]) -> None:
    if sequence.ndim != 3:
        raise ValueError(f"Got label maps of shape {sequence.shape}; expected (T, H, W).")
    if not spacing > 0 or not 0 <= rate <= 1:
        raise ValueError(f"Got spacing = {spacing} and rate = {rate}; expected mm above 0, and 0 to 1.")
    unknown = set(kinds) - set(ERROR_KINDS)
    if unknown or not kinds:
        raise ValueError(
            f"Got the error kinds {', '.join(kinds) or 'none'}; expected some of {', '.join(ERROR_KINDS)}."
        )
    for t, frame in enumerate(sequence):
        if not (frame == LV).any() or not (frame == MYO).any():
            raise ValueError(f"Frame {t} has no LV (1) or no myocardium (2); expected label maps without errors.")
