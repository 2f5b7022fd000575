"""Colours of labels, distinct for successive labels."""

from __future__ import annotations

import colorsys

GOLDEN = 0.618034


def label_colour(label: int) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255; hues advance by the golden ratio, so that successive labels differ."""
    red, green, blue = colorsys.hsv_to_rgb((label - 1) * GOLDEN % 1, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)
