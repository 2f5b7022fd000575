"""Read scans of any supported format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel

from meddiffusers.data.io.dicom import read_dicom
from meddiffusers.data.io.dicom_files import SUFFIXES, is_dicom
from meddiffusers.data.io.metaimage import read_metaimage
from meddiffusers.data.io.nifti import PAIR, is_unchanged, read_mgh, read_nifti, read_nifti_value
from meddiffusers.data.io.nrrd import read_nrrd
from meddiffusers.data.modalities import recognize_path
from meddiffusers.data.scan import Scan

_READERS: dict[str, Callable[[Path, str | Sequence[str]], Scan]] = {
    ".nii.gz": read_nifti,
    ".nii": read_nifti,
    **dict.fromkeys(PAIR, read_nifti),
    **dict.fromkeys((".mgh", ".mgz"), read_mgh),
    ".nrrd": read_nrrd,
    ".nhdr": read_nrrd,
    ".mha": read_metaimage,
    ".mhd": read_metaimage,
}


def read(source: Any, *, modality: str | Sequence[str] | None = None, volume: int | None = None) -> Scan:
    """Read a scan.

    Voxels keep their type and values; scaled values are float32, except DICOM with integer slope and intercept: the
    smallest signed integers. Axes and affine (mm in RAS+) are those of the file; only DICOM slices are sorted, by
    position. See `io.nifti`, `io.nrrd`, `io.metaimage` and `io.dicom` for the details of each format. What was repaired
    in a header, or left open by it, is logged and kept as the scan's `notes`.

    Args:
        source: a file: NIfTI (.nii, .nii.gz), Analyze and NIfTI pairs (.hdr or .img), MGH (.mgh, .mgz), NRRD (.nrrd,
            .nhdr), MetaImage (.mha, .mhd) or DICOM (.dcm, .dicom, .ima, or any other name); a folder with one DICOM
            series; a nibabel image; or a value of `datasets.Nifti`, a dictionary with "bytes" or "path".
        modality: one name of `data.modalities`, or one per channel; by default that which DICOM tags, the series'
            description or the file's name tell (the scan's `modality_from` says what did), else "".
        volume: number of the volume, from 0, of a multi-frame DICOM file with several; the error without it lists them.

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
    names = [modality] if modality is None or isinstance(modality, str) else modality
    if not isinstance(names, Sequence) or not all(name is None or isinstance(name, str) for name in names):
        raise ValueError(f"modality={modality!r}; expected one name such as 't1', or one for each channel.")
    if volume is not None and (not isinstance(volume, int) or volume < 0):
        raise ValueError(f"volume={volume!r}; expected a number from 0.")
    if source == "":
        raise ValueError("Got an empty path; expected that of a scan.")
    if isinstance(source, str | Path):
        return _read_path(Path(source), modality, volume)
    if isinstance(source, Mapping) and source.get("bytes") is None and source.get("path"):
        return _read_path(Path(source["path"]), modality, volume)
    if isinstance(source, Mapping) and source.get("bytes"):
        path = source.get("path") or ""
        return _with_evidence(read_nifti_value(source, _named(Path(path), modality), path), Path(path), modality)
    if isinstance(source, nibabel.spatialimages.SpatialImage):
        path = source.get_filename() or ""
        if path.lower().endswith((*_READERS,)) and is_unchanged(source):
            return _read_path(Path(path), modality, volume)
        return _with_evidence(read_nifti_value(source, _named(Path(path), modality), path), Path(path), modality)
    raise ValueError(
        f"Got a {type(source).__name__}; expected a path, a nibabel image, or a value of datasets.Nifti. "
        "An array becomes a scan with its geometry: Scan(array, affine)."
    )


def _read_path(path: Path, modality: str | Sequence[str] | None, volume: int | None) -> Scan:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder; expected a scan.")
    if not (path.is_file() or path.is_dir()):
        raise ValueError(f"{path}: a pipe or a device; expected a file, or a folder of DICOM files: save it as a file.")
    for suffix, reader in _READERS.items():
        if path.is_file() and path.name.lower().endswith(suffix):
            if volume is not None:
                raise ValueError(
                    f"{path}: got volume={volume}; expected it with DICOM alone: volumes are channels here."
                )
            return _with_evidence(reader(path, _named(path, modality)), path, modality)
    if path.is_dir() or path.name.lower().endswith(SUFFIXES) or is_dicom(path):
        return read_dicom(path, modality, volume)
    known = ", ".join((*_READERS, *SUFFIXES))
    raise ValueError(f"{path}: unknown format; expected one of {known}, or a folder of DICOM files: convert it.")


def _named(path: Path, modality: str | Sequence[str] | None) -> str | Sequence[str]:
    return recognize_path(path).modality if modality is None else modality


def _with_evidence(scan: Scan, path: Path, modality: str | Sequence[str] | None) -> Scan:
    recognized = recognize_path(path)
    given = modality is not None or recognized.silent
    return scan if given else replace(scan, modality_from=f"name: {recognized}")
