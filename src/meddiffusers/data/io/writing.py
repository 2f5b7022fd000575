"""Write scans in the format that the file name selects."""

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
    """Write a scan atomically in the format of the file's suffix.

    Args:
        scan: to write. Voxel type, values and affine are kept.
        path: .nii and .nii.gz: channels are the fourth axis; .nrrd, .mha and .mhd: channels are vector pixels; .png: a
            panel (`png_panel.scan_panel`); .dcm: a label map as DICOM-SEG on the grid of `series`.
        series: for .dcm, folder or files of the segmented DICOM series.
        names: for .dcm, names of the labels.
        keep_patient: for .dcm, copy patient and study from the series; by default they are blank.

    Returns:
        The path.

    Raises:
        ValueError: an unknown suffix, or voxels that the format cannot store without loss.

    Example:
        >>> write(scan, "mask.nii.gz")
        PosixPath('mask.nii.gz')
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: a folder; expected the name of a file to write.")
    if path.suffix.lower() == ".dcm":
        if series is None or names is None:
            raise ValueError(f"{path}: DICOM is written as labels of a series; expected `series` and `names`.")
        if not isinstance(names, Mapping) or not all(isinstance(name, str) and name.strip() for name in names.values()):
            raise ValueError(f"{path}: got names={names!r}; expected a text for each label, as {{1: 'oedema'}}.")
        files = Path(series) if isinstance(series, str | Path) else [Path(file) for file in series]
        if not files or (isinstance(files, Path) and not files.exists()):
            raise ValueError(f"{path}: got series={series!r}; expected the folder or the files of a DICOM series.")
        write_segmentation(scan, path, files, names, keep_patient)
        return path
    if series is not None or names is not None or keep_patient:
        raise ValueError(f"{path}: got `series`, `names` or `keep_patient`; expected them with .dcm alone.")
    for suffix, writer in _WRITERS.items():
        if path.name.lower().endswith(suffix):
            writer(scan, path)
            return path
    raise ValueError(f"{path}: unknown suffix; expected one of {', '.join(_WRITERS)}, .dcm.")
