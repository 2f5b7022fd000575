"""Six shape attributes of handwritten digits, as defined by Morpho-MNIST.

An image is enlarged four times and thresholded half-way between its darkest and brightest level; lengths are in pixels
of the original image.

    area       number of foreground pixels / 16                                                              px²
    length     steps along the medial axis, 1 or √2 each, / 4                                                 px
    thickness  2 × mean distance of the medial axis to the background, / 4                                    px
    slant      atan(−μ₁₁ / μ₀₂) of the grey levels' central moments; positive leans to the right              rad
    width      of the parallelogram of that slant that contains all but 1 % of the grey mass on either side   px
    height     of the same parallelogram                                                                      px

Pixels outside the image are background.

Source: Castro, Tan, Kainz, Konukoglu and Glocker, "Morpho-MNIST: quantitative assessment and diagnostics for
representation learning", JMLR 20 (2019), section 2.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.morphology import medial_axis
from skimage.transform import AffineTransform, warp

DIGIT_ATTRIBUTES: dict[str, str] = {
    "area": "px²",
    "length": "px",
    "thickness": "px",
    "slant": "rad",
    "width": "px",
    "height": "px",
}

SCALE = 4
TRIMMED = 0.02
CHUNK = 128  # digits measured together


def measure_digits(images: np.ndarray) -> np.ndarray:
    """Measure the six attributes of digits.

    Float images are rounded to 256 grey levels. The attributes of a digit do not depend on the rest of the batch.

    Args:
        images: (B, H, W), uint8 or float in [0, 1].

    Returns:
        (B, 6) float64 in the order of `DIGIT_ATTRIBUTES`; NaN for images whose enlarged contrast is below one grey
        level.

    Raises:
        ValueError: another shape, type or range.
    """
    images = _grey_levels(np.asarray(images))
    attributes = np.full((len(images), len(DIGIT_ATTRIBUTES)), np.nan)
    for start in range(0, len(images), CHUNK):
        levels = enlarge(images[start : start + CHUNK])
        contrast = np.ptp(levels, axis=(1, 2)) >= 1
        if contrast.any():
            attributes[start : start + CHUNK][contrast] = _measure(levels[contrast])
    return attributes


def enlarge(images: np.ndarray) -> np.ndarray:
    """Enlarge images four times by cubic convolution, clipped to each image's range, and a Gaussian of σ = 4/3 pixels.

    Args:
        images: (B, H, W) uint8.

    Returns:
        (B, 4H, 4W) float64, whole grey levels from 0 to 255.
    """
    images = images / 255
    rows, columns = (_interpolation_matrix(size) for size in images.shape[1:])
    low, high = images.min(axis=(1, 2), keepdims=True), images.max(axis=(1, 2), keepdims=True)
    smooth = ndimage.gaussian_filter(np.clip(rows @ images @ columns.T, low, high), 2 * SCALE / 6, axes=(1, 2))
    return np.floor(255 * smooth + 1e-9)  # the margin keeps rounding errors from costing a whole level


def _grey_levels(images: np.ndarray) -> np.ndarray:
    if images.ndim != 3:
        raise ValueError(
            f"measure_digits got images of shape {images.shape}, expected (B, H, W): drop the channel axis, "
            "add a batch axis to a single image"
        )
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"measure_digits got {images.dtype}, expected uint8 or float in [0, 1]: convert the images")
    if not np.isfinite(images).all():
        raise ValueError("measure_digits got NaN or infinite pixels, expected float in [0, 1]: leave those images out")
    if images.size and not 0 <= images.min() <= images.max() <= 1:
        raise ValueError(
            f"measure_digits got floats from {images.min():g} to {images.max():g}, expected [0, 1]: rescale the images"
        )
    return np.rint(255 * images.astype(np.float64)).astype(np.uint8)


@cache
def _interpolation_matrix(size: int) -> np.ndarray:
    """(4·size, size) matrix of the cubic enlargement along one axis; it is linear and separable."""
    along_rows = AffineTransform(scale=(1, 1 / SCALE), translation=(0, (1 / SCALE - 1) / 2))
    return warp(np.eye(size), along_rows, output_shape=(SCALE * size, size), order=3, mode="reflect", clip=False)


def _measure(levels: np.ndarray) -> np.ndarray:
    low, high = levels.min(axis=(1, 2), keepdims=True), levels.max(axis=(1, 2), keepdims=True)
    digits = levels >= (low + high) / 2
    area = _count(digits) / SCALE**2
    length, thickness = (pixels / SCALE for pixels in _stroke(digits))
    slant = _slant(levels)
    width, height = (pixels / SCALE for pixels in _parallelogram(levels, slant))
    return np.stack([area, length, thickness, slant, width, height], axis=1)


def _stroke(digits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Length of the medial axis and mean thickness of each digit (B, h, w), in enlarged pixels."""
    skeleton, distance = medial_axes(_without_margins(digits))
    right = skeleton[:, :, :-1] & skeleton[:, :, 1:]
    down = skeleton[:, :-1] & skeleton[:, 1:]
    falling = skeleton[:, :-1, :-1] & skeleton[:, 1:, 1:]
    rising = skeleton[:, :-1, 1:] & skeleton[:, 1:, :-1]
    straight, diagonal = _count(right) + _count(down), _count(falling) + _count(rising)
    total_distance = np.bincount(np.nonzero(skeleton)[0], distance[skeleton])
    return straight + np.sqrt(2) * diagonal, 2 * total_distance / _count(skeleton)


def _without_margins(digits: np.ndarray) -> np.ndarray:
    """Crop the rows and columns that are background in all masks."""
    rows, columns = np.flatnonzero(digits.any(axis=(0, 2))), np.flatnonzero(digits.any(axis=(0, 1)))
    return digits[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _count(masks: np.ndarray) -> np.ndarray:
    return masks.sum(axis=(1, 2))


def medial_axes(digits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Medial axis and distance to the background of each mask (B, h, w).

    `medial_axis` spends most of its time on a table that it rebuilds at each call, so all masks go through one call,
    stacked with a border of background.
    """
    tiles = np.pad(digits, ((0, 0), (1, 1), (1, 1)))
    mosaic = tiles.reshape(-1, tiles.shape[2])
    skeleton, distance = medial_axis(mosaic, return_distance=True, rng=_PerDigit(_count(digits)))
    inside = (slice(None), slice(1, -1), slice(1, -1))
    return skeleton.reshape(tiles.shape)[inside], distance.reshape(tiles.shape)[inside]


class _PerDigit(np.random.Generator):
    """Break `medial_axis`' ties in each digit of a stack as RandomState(0) would for the digit alone.

    The stream of RandomState is frozen, so measurements are the same for every version of numpy.
    """

    def __init__(self, pixels: np.ndarray) -> None:
        super().__init__(np.random.PCG64(0))
        self.pixels = pixels

    def permutation(self, x: Any, axis: int = 0) -> np.ndarray:
        stream = np.random.RandomState()

        def order(pixels: int) -> np.ndarray:
            stream.seed(0)  # much cheaper than a new RandomState
            return stream.permutation(pixels)

        return np.concatenate([order(pixels) for pixels in self.pixels])


def _slant(levels: np.ndarray) -> np.ndarray:
    rows, columns = levels.sum(axis=2), levels.sum(axis=1)
    dy, dx = _from_centre(rows), _from_centre(columns)
    mixed = ((levels @ dx[:, :, None])[:, :, 0] * dy).sum(axis=1)
    return np.arctan(-mixed / (rows * dy**2).sum(axis=1))


def _parallelogram(levels: np.ndarray, slant: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Width and height, in enlarged pixels, of the grey images (B, h, w) deskewed by their slant."""
    y, x = (np.arange(size) + 0.5 for size in levels.shape[1:])
    shift = np.tan(slant)[:, None] * _from_centre(levels.sum(axis=2))
    return _trimmed_extent(x + shift[:, :, None], levels), _trimmed_extent(y[None, :, None], levels)


def _from_centre(profile: np.ndarray) -> np.ndarray:
    """Distance of each position of the mass profiles (B, size) from their centres."""
    positions = np.arange(profile.shape[1])
    return positions - (profile * positions).sum(axis=1, keepdims=True) / profile.sum(axis=1, keepdims=True)


def _trimmed_extent(positions: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Extent (B,) along positions (enlarged pixels, broadcast to levels) without 1 % of the grey mass at either end."""
    n, edges = len(levels), max(levels.shape[1:])
    edge = np.clip(np.floor(positions) + 1, 0, edges).astype(np.intp)  # the first pixel edge past this position
    slot = np.broadcast_to(edge, levels.shape) + (edges + 1) * np.arange(n)[:, None, None]
    mass = np.bincount(slot.ravel(), levels.ravel(), minlength=n * (edges + 1)).reshape(n, edges + 1)
    below = mass.cumsum(axis=1) / mass.sum(axis=1, keepdims=True)
    ends = [np.interp([TRIMMED / 2, 1 - TRIMMED / 2], cumulated, np.arange(edges + 1)) for cumulated in below]
    return np.diff(ends, axis=1)[:, 0]
