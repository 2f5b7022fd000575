"""A colour for each label, far from those of the labels before it."""

from __future__ import annotations

import colorsys

GOLDEN = 0.618034


def label_colour(label: int) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255; hues step round the circle by the golden ratio, so none comes twice soon."""
    red, green, blue = colorsys.hsv_to_rgb((label - 1) * GOLDEN % 1, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)
