"""What is wrong with a folder of scans, said in one report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from meddiffusers.utils.text import bullets


class Fault(NamedTuple):
    """Something that keeps a subject from being loaded."""

    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.text}"


class ScanFaults(ValueError):  # noqa: N818  (a report of several)
    """A folder whose scans cannot all be loaded; `faults` holds every fault, and the message prints them."""

    def __init__(self, folder: Path, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__(
            f"{folder} has {len(faults)} fault{'s' if len(faults) > 1 else ''}:\n{bullets(faults)}\n"
            "Mend them, or set skip_faulty=True to load the other subjects."
        )
