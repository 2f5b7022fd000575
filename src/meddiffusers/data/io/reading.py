"""Read scans of any supported format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel

from meddiffusers.data.io.dicom import read_dicom
from meddiffusers.data.io.dicom_files import SUFFIXES, is_dicom
from meddiffusers.data.io.itk import read_itk
from meddiffusers.data.io.nifti import read_nifti, read_nifti_value
from meddiffusers.data.modalities import modality_in
from meddiffusers.data.scan import Scan

_READERS: dict[str, Callable[[Path, str | Sequence[str]], Scan]] = {
    ".nii.gz": read_nifti,
    ".nii": read_nifti,
    ".hdr": read_nifti,
    ".img": read_nifti,
    ".nrrd": read_itk,
    ".nhdr": read_itk,
    ".mha": read_itk,
    ".mhd": read_itk,
}


def read(source: Any, *, modality: str | Sequence[str] | None = None) -> Scan:
    """Read a scan.

    Voxels keep their type and values; scaled values are float32, except DICOM with integer slope and intercept: int16
    or int32. Axes and affine (mm in RAS+) are those of the file; only DICOM slices are sorted, by position. See
    `io.nifti`, `io.itk` and `io.dicom` for the details of each format.

    Args:
        source: a file: NIfTI (.nii, .nii.gz), Analyze and NIfTI pairs (.hdr or .img), NRRD (.nrrd, .nhdr), MetaImage
            (.mha, .mhd) or DICOM (.dcm, .dicom, .ima, or any other name); a folder with one DICOM series; a nibabel
            image; or a value of `datasets.Nifti`, a dictionary with "bytes" or "path".
        modality: one name of `data.modalities`, or one per channel; by default from the file's name or the series'
            description, else "".

    Returns:
        Scan (C, X, Y, Z).

    Raises:
        FileNotFoundError: the file or folder does not exist.
        ValueError: the file is damaged, ambiguous or of an unknown format; the message names it.

    Example:
        >>> scan = read("patient7_t1ce.nii.gz")
        >>> scan.modality
        ('t1ce',)
    """
    if isinstance(source, str | Path):
        return _read_path(Path(source), modality)
    if isinstance(source, Mapping) and source.get("bytes") is None and source.get("path"):
        return _read_path(Path(source["path"]), modality)
    if isinstance(source, Mapping) and source.get("bytes"):
        path = source.get("path") or ""
        return read_nifti_value(source, _named(Path(path), modality), path)
    if isinstance(source, nibabel.spatialimages.SpatialImage):
        path = source.get_filename() or ""
        return read_nifti_value(source, _named(Path(path), modality), path)
    raise ValueError(
        f"Got a {type(source).__name__}; expected a path, a nibabel image, or a value of datasets.Nifti. "
        "An array becomes a scan with its geometry: Scan(array, affine)."
    )


def _read_path(path: Path, modality: str | Sequence[str] | None) -> Scan:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder; expected a scan.")
    for suffix, reader in _READERS.items():
        if path.name.lower().endswith(suffix):
            return reader(path, _named(path, modality))
    if path.is_dir() or path.name.lower().endswith(SUFFIXES) or is_dicom(path):
        return read_dicom(path, modality)
    known = ", ".join((*_READERS, *SUFFIXES))
    raise ValueError(f"{path}: unknown format; expected one of {known}, or a folder of DICOM files: convert it.")


def _named(path: Path, modality: str | Sequence[str] | None) -> str | Sequence[str]:
    return modality_in(path.name.partition(".")[0]) if modality is None else modality
