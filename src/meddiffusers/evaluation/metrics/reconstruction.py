"""How closely an auto-encoder gives its images back."""

from __future__ import annotations

import numpy as np


def pixel_agreement(reconstruction: np.ndarray, image: np.ndarray, threshold: float = 0.5) -> float:
    """Fraction of pixels on which reconstruction and image, of one shape, lie on the same side of the threshold."""
    if reconstruction.shape != image.shape:
        raise ValueError(
            f"pixel_agreement got reconstructions {reconstruction.shape} of images {image.shape}, expected one shape: "
            "bring both to the same axis order"
        )
    return float(((reconstruction >= threshold) == (image >= threshold)).mean())
