"""Which files and folders are scans, told by names and first bytes."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from meddiffusers.utils.optional import optional_import

FORMATS = {
    ".nii.gz": "NIfTI",
    ".nii": "NIfTI",
    ".hdr": "Analyze",
    ".nrrd": "NRRD",
    ".nhdr": "NRRD",
    ".mha": "MetaImage",
    ".mhd": "MetaImage",
}
DICOM, DICOM_SUFFIXES = "DICOM", (".dcm", ".dicom", ".ima")


def find_scans(path: Path) -> list[Path]:
    """The scans in a folder and below it, sorted; a file or a folder that is a DICOM series stands for itself.

    A folder with several DICOM files is one series, unless every file is a series of its own, such as a moving image.

    Raises:
        FileNotFoundError: no such file or folder.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder; expected a scan or a folder of scans.")
    if path.is_file():
        return [path]
    found, slices = [], defaultdict(list)
    for file in sorted(path.rglob("*")):
        if not file.is_file() or any(part.startswith(".") for part in file.relative_to(path).parts):
            continue
        if format_of(file) != DICOM:
            found.append(file)
        elif _is_dicom(file):
            slices[file.parent].append(file)
    for folder, files in slices.items():
        found += files if len(_series(files)) == len(files) else [folder]
    return sorted(found)


def format_of(path: Path) -> str:
    """By the name; a folder, and a file of no known ending, is taken for DICOM."""
    name = path.name.lower()
    return next((kind for suffix, kind in FORMATS.items() if name.endswith(suffix)), DICOM)


def _is_dicom(path: Path) -> bool:
    if path.suffix.lower() in DICOM_SUFFIXES:
        return True
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM" and path.name.upper() != "DICOMDIR"


def _series(files: list[Path]) -> set[str]:
    """The series the DICOM files belong to; what cannot be read counts as one more."""
    pydicom = optional_import("pydicom", "dicom")
    found = set()
    for file in files:
        try:
            tags = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
            found.add(str(tags.get("SeriesInstanceUID", "")))
        except Exception:  # whatever a damaged file raises: reading the scan will tell
            found.add("")
    return found
