"""Find scans by file names and magic numbers."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from meddiffusers.data.io.dicom_files import SUFFIXES, is_dicom, parse

FORMATS = {
    ".nii.gz": "NIfTI",
    ".nii": "NIfTI",
    ".hdr": "NIfTI or Analyze",
    ".hdr.gz": "NIfTI or Analyze",
    ".mgh": "MGH",
    ".mgz": "MGH",
    ".nrrd": "NRRD",
    ".nhdr": "NRRD",
    ".mha": "MetaImage",
    ".mhd": "MetaImage",
}
DICOM = "DICOM"


def find_scans(path: Path) -> list[Path]:
    """Find scans at any depth of a folder, sorted; a file or a DICOM series is returned itself.

    A folder with several DICOM files is one series, unless every file is a series of its own, such as a cine.

    Raises:
        FileNotFoundError: the file or folder does not exist.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder; expected a scan or a folder of scans.")
    if not path.is_dir():
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
    """Format by file name; folders and files without a known suffix are DICOM."""
    name = path.name.lower()
    return next((kind for suffix, kind in FORMATS.items() if name.endswith(suffix)), DICOM)


def _is_dicom(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES or (path.name.upper() != "DICOMDIR" and is_dicom(path))


def _series(files: list[Path]) -> set[str]:
    """Series UIDs of DICOM files; unreadable files count as one series."""
    found = set()
    for file in files:
        try:
            tags = parse(file, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
            found.add(str(tags.get("SeriesInstanceUID", "")))
        except Exception:  # damaged files raise various exceptions; reading the scan reports them
            found.add("")
    return found
