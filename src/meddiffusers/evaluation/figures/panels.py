"""Panels of images and heatmaps, rendered without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO

import numpy as np
import PIL.Image
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DPI = 140
TILE, GAP, TITLE = 0.8, 0.06, 0.15  # inches: width of an image, gap between images, height of a title


def panel(
    rows: Mapping[str, Sequence[np.ndarray] | np.ndarray],
    titles: Mapping[str, Sequence[str]] | None = None,
    tile: float = TILE,
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> PIL.Image.Image:
    """Arrange images in named rows.

    Args:
        rows: Images of each row, (H, W) or (H, W, C): grey, label maps, or colour if C = 3. Of other channel counts
            the first channel is shown.
        titles: A title for each image of a row, by the name of the row.
        tile: Width of an image in inches.
        ranges: Intensities of black and white, by the name of the row; by default its lowest and highest value.
    """
    titles, ranges = titles or {}, ranges or {}
    rows = {name: _displayed(images, ranges.get(name)) for name, images in rows.items()}
    tall = tile * max(image.shape[0] / image.shape[1] for images in rows.values() for image in images)
    columns, line = max(map(len, rows.values())), tall + GAP + (TITLE if titles else 0)
    margin = 0.15 + 0.075 * max(map(len, rows))  # holds the longest name
    width, height = margin + columns * (tile + GAP), GAP + len(rows) * line
    figure = Figure(figsize=(width, height), dpi=DPI)
    inches = figure.add_axes((0, 0, 1, 1))
    inches.axis("off")
    for row, (name, images) in enumerate(rows.items()):
        bottom = height - (row + 1) * line
        inches.text(margin - 0.08, bottom + tall / 2, name, ha="right", va="center", fontsize=8)
        for column, image in enumerate(images):
            left = margin + column * (tile + GAP)
            place = (left, left + tile, bottom, bottom + tile * image.shape[0] / image.shape[1])
            inches.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest", extent=place, aspect="auto")
            if name in titles:
                inches.text(left + tile / 2, place[3] + 0.03, titles[name][column], ha="center", fontsize=6.5)
    inches.set(xlim=(0, width), ylim=(0, height))  # imshow changes the limits
    return to_image(figure)


def heatmap(
    matrix: np.ndarray, row_names: Sequence[str], column_names: Sequence[str], *, down: str, across: str
) -> PIL.Image.Image:
    """Plot a matrix with its numbers, on a colour scale symmetric about zero.

    Args:
        matrix: (R, C).
        row_names: R names.
        column_names: C names.
        down: Label of the row axis.
        across: Label of the column axis.
    """
    figure = Figure(figsize=(1.6 + 0.7 * len(column_names), 0.9 + 0.4 * len(row_names)), dpi=DPI)
    axis = figure.subplots()
    extreme = float(np.nanmax(np.abs(matrix)))
    axis.imshow(matrix, cmap="RdBu_r", vmin=-extreme, vmax=extreme, aspect="auto")
    axis.set_xticks(range(len(column_names)), column_names, fontsize=8)
    axis.set_yticks(range(len(row_names)), row_names, fontsize=8)
    axis.set_xlabel(across, fontsize=8)
    axis.set_ylabel(down, fontsize=8)
    for (row, column), value in np.ndenumerate(matrix):
        colour = "white" if abs(value) > 0.6 * extreme else "black"
        text = f"{round(value, 1) + 0.0:.1f}"  # the sum turns -0.0 into 0.0
        axis.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    figure.tight_layout()
    return to_image(figure)


def to_image(figure: Figure) -> PIL.Image.Image:
    """Render a matplotlib figure as a PIL image, RGB."""
    buffer = BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return PIL.Image.open(buffer).convert("RGB")


def _displayed(images: Sequence[np.ndarray] | np.ndarray, ends: tuple[float, float] | None) -> list[np.ndarray]:
    """Scale the images of one row to [0, 1], as (H, W) or (H, W, 3)."""
    low, high = ends or (min(map(np.min, images)), max(map(np.max, images)))
    scaled = [(np.asarray(image, dtype=float) - low) / max(high - low, 1e-6) for image in images]
    return [image[..., 0] if image.ndim == 3 and image.shape[-1] != 3 else image for image in scaled]
