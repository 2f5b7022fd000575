"""Errors and notes of reading: every exception becomes a ValueError that names the file, repairs are logged."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from meddiffusers.data.scan import Scan

EDGES = (1e-4, 1e3)  # mm, edge lengths of a voxel that can be: from a tenth of a micrometre to a metre
FARTHEST = 1e6  # mm from the origin

logger = logging.getLogger(__name__)


class UnreadableError(ValueError):
    """A file is damaged or has unexpected content. The message has file, content, expectation and remedy."""

    def __init__(self, source: str, found: str, expected: str, remedy: str = "copy or export the file again") -> None:
        super().__init__(f"{source or 'image'}: {found}; expected {expected}: {remedy}.")


@contextmanager
def decoding(source: str, expected: str) -> Iterator[None]:
    """Convert any exception of a decoding library to UnreadableError, and suppress its warnings.

    Libraries quote the data that they fail on, which may contain a patient's name: nothing of their exceptions is
    reported. ImportError and MemoryError are passed on.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (UnreadableError, ImportError, MemoryError):
            raise
        except Exception as error:
            found = "damaged or of another kind: its content cannot be decoded"
            if isinstance(error, OSError) and error.strerror:
                found = f"a system error ({error.strerror})"
            raise UnreadableError(source, found, expected) from None


def scan_read(
    array: np.ndarray,
    affine: np.ndarray,
    modality: str | Sequence[str],
    source: str,
    time_step: float = 0.0,
    notes: Sequence[str] = (),
) -> Scan:
    """Create the scan that was read from `source`, and log its notes as warnings.

    Raises:
        UnreadableError: the scan is invalid, or its voxels are shorter, longer or farther away than those of a patient.
    """
    names = modality if isinstance(modality, str) else tuple(modality)
    if not isinstance(names, str) and array.ndim == 4 and len(names) != len(array):
        found = f"{len(array)} channel(s) for the {len(names)} name(s) given"
        raise UnreadableError(source, found, "a name for each", "give one name for all, or one for each")
    with np.errstate(all="ignore"):
        edges, origin = np.linalg.norm(affine[:3, :3], axis=0), np.abs(affine[:3, 3]).max()
    if np.isfinite(affine).all() and not (EDGES[0] <= min(edges) <= max(edges) < EDGES[1] and origin < FARTHEST):
        found = f"voxels of {' × '.join(f'{edge:.3g}' for edge in edges)} mm, {origin:.3g} mm from the origin"
        limits = f"edges from {EDGES[0]:g} to {EDGES[1]:g} mm, at most {FARTHEST:g} mm away"
        raise UnreadableError(source, found, limits, "correct the affine or the unit in its header")
    try:
        scan = Scan(array, affine, names, source, time_step, notes=tuple(notes))
    except ValueError as error:
        raise UnreadableError(source, str(error).rstrip("."), "a scan of `meddiffusers.data.scan`") from None
    for note in notes:
        logger.warning("%s: %s", source or "an image", note)
    return scan
