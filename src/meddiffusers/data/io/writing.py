"""Which writer a file's name asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from meddiffusers.data.io.dicom_seg import write_segmentation
from meddiffusers.data.io.itk import write_itk
from meddiffusers.data.io.nifti import write_nifti
from meddiffusers.data.io.png_panel import write_panel
from meddiffusers.data.scan import Scan

_WRITERS: dict[str, Callable[[Scan, Path], None]] = {
    ".nii.gz": write_nifti,
    ".nii": write_nifti,
    ".nrrd": write_itk,
    ".mha": write_itk,
    ".mhd": write_itk,
    ".png": write_panel,
}


def write(
    scan: Scan,
    path: str | Path,
    *,
    series: str | Path | Sequence[str | Path] | None = None,
    names: Mapping[int, str] | None = None,
    keep_patient: bool = False,
) -> Path:
    """Write a scan in the format that the name ends with, whole or not at all, and return the path.

    .nii, .nii.gz: voxel type, values and affine as they are; channels as fourth axis.
    .nrrd, .mha, .mhd: the same; channels as values of one voxel.
    .png: `png_panel.scan_panel`, a image to look at.
    .dcm: a label map as DICOM-SEG on the grid of `series`, a folder or the files of the DICOM series that it outlines,
    with `names` of the labels; patient and study are blank unless `keep_patient` copies them from the series.

    Raises:
        ValueError: an unknown ending, or voxels that the format cannot hold without loss.
    """
    path = Path(path)
    if path.suffix.lower() == ".dcm":
        if series is None or names is None:
            raise ValueError(f"{path}: DICOM is written as labels of a series; expected `series` and `names`.")
        files = Path(series) if isinstance(series, str | Path) else [Path(file) for file in series]
        write_segmentation(scan, path, files, names, keep_patient)
        return path
    if series is not None or names is not None or keep_patient:
        raise ValueError(f"{path}: got `series`, `names` or `keep_patient`; expected them with .dcm alone.")
    for suffix, writer in _WRITERS.items():
        if path.name.lower().endswith(suffix):
            writer(scan, path)
            return path
    raise ValueError(f"{path}: no known ending; expected one of {', '.join(_WRITERS)}, .dcm.")
