from __future__ import annotations

import numpy as np
import pytest

from meddiffusers.evaluation.metrics.reconstruction import pixel_agreement


def test_pixels_on_the_same_side_are_counted() -> None:
    image = np.array([[0.0, 0.4], [0.5, 1.0]])
    reconstruction = np.array([[0.3, 0.6], [0.9, 0.49]])
    assert pixel_agreement(reconstruction, image) == 0.5
    assert pixel_agreement(reconstruction, image, threshold=0.95) == 0.75
    assert pixel_agreement(image, image) == 1


def test_shapes_are_not_broadcast() -> None:
    with pytest.raises(ValueError, match=r"reconstructions \(2, 1, 4, 4\) and images \(2, 4, 4\), expected one shape"):
        pixel_agreement(np.zeros((2, 1, 4, 4)), np.zeros((2, 4, 4)))
