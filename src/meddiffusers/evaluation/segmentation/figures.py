"""Figure of selected slices side by side, with predictions and rater masks.

All coordinates are in mm from the upper left corner of the image, so pixels may be anisotropic.
"""

from __future__ import annotations

import numpy as np
import PIL.Image
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from meddiffusers.data.labels import label_colour
from meddiffusers.evaluation.figures.panels import DPI, to_image
from meddiffusers.evaluation.segmentation.result import SegmentationResult
from meddiffusers.evaluation.segmentation.scores import SegmentationScores

TILE, GAP = 1.45, 0.05  # inches: an image, the space between two
LEFT, RIGHT, TOP, BOTTOM = 0.32, 0.62, 0.42, 0.32  # inches: names of rows, colour scales, titles, legend
AROUND = 1.7  # side of an enlarged square over the extent of its foreground
SMALLEST = 0.25  # least side of an enlarged square, as a fraction of the image's shorter side
WHITE = (1.0, 1.0, 1.0)
ORDER = ("best", "median", "worst", "smallest lesion", "raters disagree most", "most uncertain", "false positive")


def select_slices(result: SegmentationResult, scores: SegmentationScores) -> dict[int, str]:
    """Select up to six different slices: best, median and worst Dice, smallest lesion, highest uncertainty (among the
    raters if there are several, else of the model), and the largest false positive in a slice without foreground.

    Returns:
        For each index of a slice its title, with the reason and its Dice.
    """
    dice, has_lesion = scores.whole.dice, result.area > 0
    false_area = np.count_nonzero(result.mask, axis=(1, 2)) * np.prod(result.spacing)
    several = result.raters.shape[1] > 1
    disagreement = _disagreement(result.raters) if several else result.uncertainty.mean(axis=(1, 2))
    lowest_first = {  # the median gives way to the ends where slices are few
        "best": -dice,
        "worst": dice,
        "median": np.abs(dice - np.nanmedian(dice)),
        "smallest lesion": np.where(has_lesion, result.area, np.nan),
        "raters disagree most" if several else "most uncertain": np.where(has_lesion, -disagreement, np.nan),
        "false positive": np.where(~has_lesion & (false_area > 0), -false_area, np.nan),
    }
    chosen: dict[str, int] = {}
    for reason, values in lowest_first.items():
        left = np.where(np.isin(np.arange(len(dice)), list(chosen.values())), np.nan, values)
        if not np.isnan(left).all():
            chosen[reason] = int(np.nanargmin(left))
    titles = {}
    for reason in sorted(chosen, key=ORDER.index):
        index = chosen[reason]
        size = result.area[index] if has_lesion[index] else false_area[index]
        titles[index] = f"{reason}\n" + (f"Dice {dice[index]:.2f}, " if has_lesion[index] else "") + f"{size:.0f} mm²"
    return titles


def slices_figure(result: SegmentationResult, scores: SegmentationScores) -> PIL.Image.Image:
    """Plot the slices of `select_slices` as columns.

    Rows: image, reference, mask, probability, fraction of the raters if there are several, and uncertainty. All rows
    but the first are enlarged to the square around the foreground that the first row shows.
    """
    chosen = select_slices(result, scores)
    names = ["image", "reference", "mask", "probability", "raters", "uncertainty"]
    rows = [name for name in names if name != "raters" or result.raters.shape[1] > 1]
    down, across = _size(result)
    heights = [TILE * down / across] + [TILE] * (len(rows) - 1)
    width = LEFT + len(chosen) * (TILE + GAP) - GAP + RIGHT
    height = TOP + sum(heights) + GAP * (len(rows) - 1) + BOTTOM
    figure = Figure(figsize=(width, height), dpi=DPI)
    grid = GridSpec(
        len(rows), len(chosen), figure, left=LEFT / width, right=1 - RIGHT / width, top=1 - TOP / height,
        bottom=BOTTOM / height, height_ratios=heights, wspace=GAP / TILE, hspace=GAP * len(rows) / sum(heights),
    )  # fmt: skip
    for row, name in enumerate(rows):
        for column, (index, title) in enumerate(chosen.items()):
            axis = figure.add_subplot(grid[row, column])
            shown = _plot_tile(axis, name, result, index)
            if row == 0:
                axis.set_title(title, fontsize=7.5, linespacing=1.25, pad=3)
            if column == 0:
                axis.set_ylabel(name, fontsize=9, labelpad=4)
        if name in ("probability", "raters", "uncertainty"):
            box = axis.get_position()  # of the last column
            place = (box.x1 + 0.06 / width, box.y0 + 0.1 * box.height, 0.09 / width, 0.8 * box.height)
            bar = figure.colorbar(shown, cax=figure.add_axes(place))
            bar.ax.tick_params(labelsize=7, length=2)
    handles = [Line2D([], [], color=_colour(label), label=name) for label, name in sorted(result.id2label.items())[1:]]
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), fontsize=8, frameon=False, borderpad=0.1)
    return to_image(figure)


def _plot_tile(axis: Axes, name: str, result: SegmentationResult, index: int) -> AxesImage:
    """Plot one slice in the row called `name`."""
    down, across = _size(result)
    image, colours, highest = {
        "probability": (result.foreground[index], "magma", 1),
        "raters": ((result.raters[index] > 0).mean(axis=0), "magma", 1),
        "uncertainty": (result.uncertainty[index], "viridis", result.uncertainty.max()),
    }.get(name, (result.images[index], "gray", 1))
    shown = axis.imshow(
        image, cmap=colours, vmin=0, vmax=highest, interpolation="nearest", extent=(0, across, down, 0), aspect="auto"
    )
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    left, top, side = _window(result, index)
    if name == "image":
        axis.add_patch(Rectangle((left, top), side, side, fill=False, edgecolor="white", linewidth=0.8, linestyle=":"))
        return shown
    if name in ("reference", "mask"):
        labels = getattr(result, name)[index]
        for label in sorted(result.id2label)[1:]:
            _outline(axis, labels == label, result.spacing, _colour(label), 1.2)
    else:
        _outline(axis, result.reference[index] > 0, result.spacing, WHITE, 0.7)
    axis.set(xlim=(left, left + side), ylim=(top + side, top))
    return shown


def _outline(
    axis: Axes, inside: np.ndarray, spacing: tuple[float, float], colour: tuple[float, float, float], width: float
) -> None:
    """Plot the border of a region half way between inner and outer pixels, also at the edge of the image."""
    if inside.any():
        rows, columns = ((np.arange(-1, n + 1) + 0.5) * mm for n, mm in zip(inside.shape, spacing, strict=True))
        axis.contour(columns, rows, np.pad(inside, 1), levels=[0.5], colors=[colour], linewidths=width)


def _window(result: SegmentationResult, index: int) -> tuple[float, float, float]:
    """Left, top and side in mm of the enlarged square: around all masks, as far as it fits into the image."""
    size = np.array(_size(result))
    marked = (result.reference[index] > 0) | (result.mask[index] > 0) | result.raters[index].any(axis=0)
    places = np.argwhere(marked)
    low, high = places.min(axis=0) * result.spacing, (places.max(axis=0) + 1) * result.spacing
    side = np.clip(AROUND * (high - low).max(), SMALLEST * size.min(), size.min())
    top, left = ((low + high) / 2 - side / 2).clip(0, size - side)
    return float(left), float(top), float(side)


def _disagreement(raters: np.ndarray) -> np.ndarray:
    """(B,) fraction of the union of the rater masks outside their intersection; NaN where the union is empty."""
    any_, all_ = (np.count_nonzero(of(raters > 0, axis=1), axis=(1, 2)) for of in (np.any, np.all))
    return 1 - np.divide(all_, any_, out=np.full(len(raters), np.nan), where=any_ > 0)


def _size(result: SegmentationResult) -> tuple[float, float]:
    """Height and width of an image in mm."""
    (rows, columns), (down, across) = result.mask.shape[1:], result.spacing
    return rows * down, columns * across


def _colour(label: int) -> tuple[float, float, float]:
    red, green, blue = label_colour(label)
    return red / 255, green / 255, blue / 255
