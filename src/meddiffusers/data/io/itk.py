"""Write NRRD and MetaImage with SimpleITK. These formats have no common field for a time step: it is not written."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from meddiffusers.data.io.text_header import LPS_TO_RAS
from meddiffusers.data.scan import Scan
from meddiffusers.utils.atomic import atomic_path
from meddiffusers.utils.optional import optional_import

STORED = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64")


def write_itk(scan: Scan, path: Path) -> None:
    """Write .nrrd, .mha or .mhd (with its .raw); channels become vector pixels, booleans uint8.

    Raises:
        ValueError: a type that SimpleITK does not support, or an affine with shear.
    """
    array = scan.array.astype(np.uint8 if scan.array.dtype == bool else scan.array.dtype.newbyteorder("="), copy=False)
    if array.dtype.name not in STORED:
        raise ValueError(f"{path}: ITK has no voxels of {array.dtype}; expected one of {', '.join(STORED)}.")
    axes = (LPS_TO_RAS @ scan.affine)[:3, :3] / scan.spacing
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-4):
        raise ValueError(f"{path}: ITK has no axes at other than right angles; expected no shear: write NIfTI.")
    itk = optional_import("SimpleITK", "itk")
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
