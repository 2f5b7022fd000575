"""Read and write NRRD and MetaImage with SimpleITK.

Before SimpleITK reads the voxels, `itk_header` compares their size with the header. The components of vector pixels
become channels, and so do the volumes of a four-dimensional image. A two-dimensional image is one slice. These formats
have no common field for a time step: it is not written.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from meddiffusers.data.io.itk_header import stored_voxels
from meddiffusers.data.io.library_errors import UnreadableError, decoding, scan_read
from meddiffusers.data.scan import Scan
from meddiffusers.utils.atomic import atomic_path
from meddiffusers.utils.optional import optional_import

KIND = "an NRRD or MetaImage file"
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
STORED = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64")


def read_itk(path: Path, modality: str | Sequence[str]) -> Scan:
    """Read .nrrd, .nhdr, .mha or .mhd."""
    source, itk = str(path), _simple_itk()
    with decoding(source, KIND):
        stored = stored_voxels(path)
        reader = itk.ImageFileReader()
        reader.SetFileName(source)
        reader.ReadImageInformation()
        parts = reader.GetNumberOfComponents()
        pixel = parts * itk.Image([1, 1], reader.GetPixelID(), parts).GetSizeOfPixelComponent()
        stored.check(source, math.prod(reader.GetSize()) * pixel)
        image = reader.Execute()
        if image.GetDimension() > 4 or (image.GetDimension() == 4 and parts > 1):
            found = f"{image.GetDimension()} dimensions of {parts} values"
            raise UnreadableError(source, found, "a volume with one axis of channels", "split it")
        return scan_read(_voxels(itk, image), _affine(image), modality, source)


def write_itk(scan: Scan, path: Path) -> None:
    """Write .nrrd, .mha or .mhd (with its .raw); channels become vector pixels, booleans uint8.

    Raises:
        ValueError: a type that SimpleITK does not support, or an affine with shear.
    """
    array = scan.array.astype(np.uint8) if scan.array.dtype == bool else scan.array
    if array.dtype.name not in STORED:
        raise ValueError(f"{path}: ITK has no voxels of {array.dtype}; expected one of {', '.join(STORED)}.")
    axes = (LPS_TO_RAS @ scan.affine)[:3, :3] / scan.spacing
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-4):
        raise ValueError(f"{path}: ITK has no axes at other than right angles; expected no shear: write NIfTI.")
    itk = _simple_itk()
    voxels = np.ascontiguousarray(array.transpose(3, 2, 1, 0))
    image = itk.GetImageFromArray(voxels if len(array) > 1 else voxels[..., 0], isVector=len(array) > 1)
    image.SetSpacing(scan.spacing)
    image.SetDirection(axes.ravel().tolist())
    image.SetOrigin((LPS_TO_RAS @ scan.affine)[:3, 3].tolist())
    with atomic_path(path) as staged:
        itk.WriteImage(image, str(staged), staged.suffix.lower() != ".mhd")
        if staged.suffix.lower() == ".mhd":
            with atomic_path(path.with_suffix(".raw")) as raw:
                staged.with_suffix(".raw").replace(raw)


def _simple_itk() -> Any:
    itk = optional_import("SimpleITK", "itk")
    itk.ProcessObject.SetGlobalWarningDisplay(False)  # warnings quote headers
    return itk


def _voxels(itk: Any, image: Any) -> np.ndarray:
    """(channels, X, Y, Z)."""
    array = itk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = np.moveaxis(array, -1, 0)
    elif image.GetDimension() < 4:
        array = array[None]
    return np.swapaxes(array[:, None] if array.ndim == 3 else array, 1, 3)


def _affine(image: Any) -> np.ndarray:
    """Affine of the first three dimensions; 1 mm along the third of a two-dimensional image."""
    size = image.GetDimension()
    affine = np.eye(max(size, 3) + 1)
    affine[:size, :size] = np.reshape(image.GetDirection(), (size, size)) * image.GetSpacing()
    affine[:size, -1] = image.GetOrigin()
    return LPS_TO_RAS @ affine[np.ix_([0, 1, 2, -1], [0, 1, 2, -1])]
