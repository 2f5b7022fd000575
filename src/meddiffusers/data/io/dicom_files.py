"""Find the files of a DICOM series by their content, not by their names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from meddiffusers.data.io.library_errors import UnreadableError, decoding
from meddiffusers.utils.optional import optional_import

KIND = "a DICOM image"
SUFFIXES = (".dcm", ".dicom", ".ima")


def datasets_in(path: Path | Sequence[Path]) -> list[Any]:
    """Read the data sets of a file, of files, or of the folder's single series.

    Raises:
        UnreadableError: the folder has no series, or several.
    """
    if not isinstance(path, Path):
        return [_dataset(file) for file in path]
    if path.is_file():
        return [_dataset(path)]
    series = defaultdict(list)
    for file in sorted(path.iterdir()):
        uid = _series_uid(file)
        if uid is not None:
            series[uid].append(file)
    if not series:
        raise UnreadableError(str(path), "no DICOM image", "the files of one DICOM series", "name the folder with them")
    if len(series) > 1:
        kinds = "; ".join(_summary(files) for files in series.values())
        raise UnreadableError(str(path), f"{len(series)} series: {kinds}", "one", "put each into a folder of its own")
    return [_dataset(file) for file in next(iter(series.values()))]


def is_dicom(file: Path) -> bool:
    """Whether the file has DICOM's magic number."""
    with file.open("rb") as opened:
        return opened.read(132)[128:] == b"DICM"


def _dataset(file: Path, **options: Any) -> Any:
    pydicom = optional_import("pydicom", "dicom")
    with decoding(str(file), KIND):
        dataset = pydicom.dcmread(file, **options)
        if "Rows" not in dataset or "Columns" not in dataset:
            raise UnreadableError(str(file), "no pixels", KIND)
        return dataset


def _series_uid(file: Path) -> str | None:
    """Series UID of a DICOM image, else None; files named as DICOM must be readable."""
    if not file.is_file() or file.name.startswith(".") or file.name.upper() == "DICOMDIR":
        return None
    if file.suffix.lower() not in SUFFIXES and not is_dicom(file):
        return None
    pydicom = optional_import("pydicom", "dicom")
    with decoding(str(file), KIND):
        tags = ["SeriesInstanceUID", "Rows"]
        dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=tags)
        return str(dataset.get("SeriesInstanceUID", "")) if "Rows" in dataset else None


def _summary(files: list[Path]) -> str:
    dataset = _dataset(files[0], stop_before_pixels=True)
    return f"{len(files)} files of {dataset.Columns}×{dataset.Rows} pixels such as {files[0].name}"
