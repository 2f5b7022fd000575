"""Panels of images to look at, drawn without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO

import numpy as np
import PIL.Image
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def panel(
    rows: Mapping[str, Sequence[np.ndarray]],
    titles: Mapping[str, Sequence[str]] | None = None,
    tile: float = 0.8,
) -> PIL.Image.Image:
    """Rows of images under each other, a title on the left of each row and, from `titles`, above each image.

    Images are (H, W) or (H, W, C); grey ones and label maps are scaled to the range of their own row.
    """
    titles = titles or {}
    columns = max(len(images) for images in rows.values())
    height = tile * (1.25 if titles else 1.05)
    figure = Figure(figsize=(1.2 + tile * columns, 0.1 + height * len(rows)), dpi=120)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (title, images) in zip(axes, rows.items(), strict=True):
        low, high = min(map(np.min, images)), max(map(np.max, images))
        for axis in line:
            axis.axis("off")
        for axis, image in zip(line, images, strict=False):
            axis.imshow(np.squeeze(image), cmap="gray", vmin=low, vmax=max(high, low + 1e-6), interpolation="nearest")
        for axis, text in zip(line, titles.get(title, ()), strict=False):
            axis.set_title(text, fontsize=6, pad=2)
        line[0].text(-0.15, 0.5, title, transform=line[0].transAxes, ha="right", va="center", fontsize=7)
    figure.subplots_adjust(
        left=1.15 / (1.2 + tile * columns), right=0.99, top=0.9, bottom=0.02, wspace=0.06, hspace=0.35
    )
    return to_image(figure)


def heatmap(matrix: np.ndarray, row_names: Sequence[str], column_names: Sequence[str], caption: str) -> PIL.Image.Image:
    """A matrix with its numbers written in, on a scale symmetric about zero."""
    figure = Figure(figsize=(1.6 + 0.7 * len(column_names), 1.2 + 0.45 * len(row_names)), dpi=120)
    axis = figure.subplots()
    extreme = float(np.abs(matrix).max())
    axis.imshow(matrix, cmap="RdBu_r", vmin=-extreme, vmax=extreme, aspect="auto")
    axis.set_xticks(range(len(column_names)), column_names, fontsize=8)
    axis.set_yticks(range(len(row_names)), row_names, fontsize=8)
    axis.set_title(caption, fontsize=8)
    for (row, column), value in np.ndenumerate(matrix):
        axis.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=7)
    figure.tight_layout()
    return to_image(figure)


def to_image(figure: Figure) -> PIL.Image.Image:
    """A drawn figure as a PIL image, RGB."""
    buffer = BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return PIL.Image.open(buffer).convert("RGB")
