"""The one place where what decoding libraries raise becomes a ValueError that names the file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from meddiffusers.data.scan import Scan


class UnreadableError(ValueError):
    """A file that does not hold what it should. The message says: file, found, expected, what to do."""

    def __init__(self, source: str, found: str, expected: str, remedy: str = "copy or export the file again") -> None:
        super().__init__(f"{source or 'image'}: {found}; expected {expected}: {remedy}.")


@contextmanager
def decoding(source: str, expected: str) -> Iterator[None]:
    """Turn any exception of a decoding library into UnreadableError, and keep its warnings to itself.

    Libraries quote what they stumble over, which may be a patient's name: of their exceptions the type alone is told,
    and neither cause nor warnings go further. A missing package and a lack of memory stay what they are.
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
    """The scan that was read from `source`; UnreadableError with the message of `Scan` where it cannot be one."""
    names = modality if isinstance(modality, str) else tuple(modality)
    try:
        return Scan(array, affine, names, source, time_step)
    except ValueError as error:
        raise UnreadableError(source, str(error).rstrip("."), "a scan of `meddiffusers.data.scan`") from None
