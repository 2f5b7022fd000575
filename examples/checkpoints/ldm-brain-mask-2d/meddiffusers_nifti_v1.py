"""Generated images and volumes as NIfTI images; several published pipelines import this file from beside them."""

from __future__ import annotations

from typing import Any

import numpy as np

PUBLISHED_AS = "meddiffusers_nifti_v1"  # also its file name here, so that imports find it in both places


def to_nifti(image: np.ndarray, spacing: float | None) -> Any:
    """Convert an image or volume to a NIfTI image, centred at the origin of the RAS+ space.

    Args:
        image: Intensities in [0, 1]: a slice (C, H, W), which becomes one axial slice whose rows run from anterior to
            posterior and whose columns run from the patient's right to the left, as radiologists view it; or a volume
            (C, D, H, W), whose axes point to the right, to the front and upwards.
        spacing: Edge length of a pixel or voxel in mm; 1 if unknown.

    Returns:
        A `nibabel.Nifti1Image` of three axes, or four where there are several channels. A file of it has 16 bits.

    Raises:
        ImportError: nibabel is not installed.
    """
    try:
        import nibabel
    except ImportError as error:
        raise ImportError('NIfTI needs nibabel: pip install nibabel. Or ask for output_type="np".') from error
    edge, signs = spacing or 1.0, (1, 1, 1)
    if image.ndim == 3:
        image, signs = image.transpose(0, 2, 1)[..., None], (-1, -1, 1)
    affine = np.diag([*(sign * edge for sign in signs), 1.0])
    affine[:3, 3] = [-sign * edge * (side - 1) / 2 for sign, side in zip(signs, image.shape[1:], strict=True)]
    nifti = nibabel.Nifti1Image(image[0] if len(image) == 1 else np.moveaxis(image, 0, -1), affine)
    nifti.set_data_dtype(np.uint16)  # of the file, which nibabel scales
    return nifti
