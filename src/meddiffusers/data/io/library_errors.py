"""Convert the exceptions of decoding libraries to a ValueError that names the file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from meddiffusers.data.scan import Scan


class UnreadableError(ValueError):
    """A file is damaged or has unexpected content. The message has file, content, expectation and remedy."""

    def __init__(self, source: str, found: str, expected: str, remedy: str = "copy or export the file again") -> None:
        super().__init__(f"{source or 'image'}: {found}; expected {expected}: {remedy}.")


@contextmanager
def decoding(source: str, expected: str) -> Iterator[None]:
    """Convert any exception of a decoding library to UnreadableError, and suppress its warnings.

    Libraries quote the data that they fail on, which may contain a patient's name: only the type of their exceptions is
    reported, without cause. ImportError and MemoryError are passed on.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (UnreadableError, ImportError, MemoryError):
            raise
        except Exception as error:
            raise UnreadableError(source, f"damaged or of another kind ({type(error).__name__})", expected) from None


def scan_read(
    array: np.ndarray, affine: np.ndarray, modality: str | Sequence[str], source: str, time_step: float = 0.0
) -> Scan:
    """Create the scan that was read from `source`; UnreadableError with the message of `Scan` if it is invalid."""
    names = modality if isinstance(modality, str) else tuple(modality)
    try:
        return Scan(array, affine, names, source, time_step)
    except ValueError as error:
        raise UnreadableError(source, str(error).rstrip("."), "a scan of `meddiffusers.data.scan`") from None
