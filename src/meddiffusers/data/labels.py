"""Label maps: integer ids from stored values, without loss, and distinct colours of successive labels."""

from __future__ import annotations

import colorsys

import numpy as np

GOLDEN = 0.618034
LARGEST = 2**32 - 1  # label of any file
WHOLE = 1e-3  # by which a scaled label may differ from an integer


def to_label_ids(values: np.ndarray, source: str = "", *, largest: int | None = None) -> np.ndarray:
    """Convert the voxels of a label map to integers; those of floats are rounded if they are whole within 1e-3.

    Args:
        values: of any shape and real type; a slope in a header leaves values such as 3.9999998.
        source: for messages.
        largest: largest label that is expected.

    Returns:
        The same shape, in the smallest unsigned type that holds all labels.

    Raises:
        ValueError: another type of values, or values that are not whole, are below 0, or exceed `largest`.

    Example:
        >>> to_label_ids(np.array([0, 3.9999998], np.float32))
        array([0, 4], dtype=uint8)
    """
    where, values = f"{source}: " if source else "", np.asarray(values)
    if values.dtype.kind not in "buif":
        raise ValueError(
            f"{where}got values of the type {values.dtype}; expected integers, which labels are: convert it."
        )
    if values.dtype.kind == "b" or not values.size:
        return values.astype(np.uint8)
    whole = values
    if values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            whole = np.rint(values)
            fractions = values[~(np.abs(values - whole) <= WHOLE)]
        if fractions.size:
            raise ValueError(
                f"{where}got {fractions.size} voxels that are not labels, such as {fractions[0]:g}; expected integers: "
                "the map was interpolated, or it is no label map. Resample it by nearest neighbour."
            )
    low, high = int(whole.min()), int(whole.max())
    limit = LARGEST if largest is None else largest
    if low < 0 or high > limit:
        found = f"{low} to {high}" if max(-low, high) < 2**64 else f"{float(low):g} to {float(high):g}"
        raise ValueError(f"{where}got labels from {found}; expected them from 0 to {limit}. Map them to these.")
    return whole.astype(np.min_scalar_type(high))


def label_colour(label: int) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255; hues advance by the golden ratio, so that successive labels differ."""
    red, green, blue = colorsys.hsv_to_rgb((label - 1) * GOLDEN % 1, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)
