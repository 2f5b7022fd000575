"""Agreement of reconstructions with their images."""

from __future__ import annotations

import numpy as np


def pixel_agreement(reconstruction: np.ndarray, image: np.ndarray, threshold: float = 0.5) -> float:
    """Fraction of pixels at which reconstruction and image are on the same side of the threshold.

    Raises:
        ValueError: The shapes differ.
    """
    if reconstruction.shape != image.shape:
        raise ValueError(
            f"pixel_agreement got reconstructions {reconstruction.shape} and images {image.shape}, expected one shape: "
            "bring both to the same axis order"
        )
    return float(((reconstruction >= threshold) == (image >= threshold)).mean())
