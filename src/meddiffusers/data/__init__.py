"""Scans: read, preprocess, slice and write them.

    from meddiffusers.data import Preprocessing, Scan, read, write

    scan = read("patient7/t1ce.nii.gz")
    preprocessed = Preprocessing(spacing=1.0, size=(160, 192, 160))(scan)
    mask = preprocessed.image.like(network(preprocessed.image.array), "labels")
    write(preprocessed.invert(mask), "patient7/mask.nii.gz")  # on the voxels of the file

The classes and functions are imported on first access, so that importing this package stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meddiffusers.data.io import read, write
    from meddiffusers.data.preprocessing.slices import Slices, assemble, slices
    from meddiffusers.data.preprocessing.subject import read_subject
    from meddiffusers.data.preprocessing.subject_slices import SubjectSlices, subject_slices
    from meddiffusers.data.preprocessing.transforms import Preprocessed, Preprocessing
    from meddiffusers.data.scan import Scan, stack_channels
    from meddiffusers.data.subject import Subject

PUBLIC = {
    "Preprocessed": "meddiffusers.data.preprocessing.transforms",
    "Preprocessing": "meddiffusers.data.preprocessing.transforms",
    "Scan": "meddiffusers.data.scan",
    "Slices": "meddiffusers.data.preprocessing.slices",
    "Subject": "meddiffusers.data.subject",
    "SubjectSlices": "meddiffusers.data.preprocessing.subject_slices",
    "assemble": "meddiffusers.data.preprocessing.slices",
    "read": "meddiffusers.data.io",
    "read_subject": "meddiffusers.data.preprocessing.subject",
    "slices": "meddiffusers.data.preprocessing.slices",
    "stack_channels": "meddiffusers.data.scan",
    "subject_slices": "meddiffusers.data.preprocessing.subject_slices",
    "write": "meddiffusers.data.io",
}
__all__ = [
    "Preprocessed",
    "Preprocessing",
    "Scan",
    "Slices",
    "Subject",
    "SubjectSlices",
    "assemble",
    "read",
    "read_subject",
    "slices",
    "stack_channels",
    "subject_slices",
    "write",
]


def __getattr__(name: str) -> Any:
    if name in PUBLIC:
        return getattr(importlib.import_module(PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
