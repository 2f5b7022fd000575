"""Figure of a segmentation evaluation: calibration, Dice rejection curve, and Dice by lesion size."""

from __future__ import annotations

import numpy as np
import PIL.Image
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.ticker import LogLocator, NullFormatter

from meddiffusers.evaluation.figures.panels import DPI, to_image
from meddiffusers.evaluation.metrics.uncertainty import BINS, FRACTIONS, expected_calibration_error
from meddiffusers.evaluation.segmentation.result import SegmentationResult
from meddiffusers.evaluation.segmentation.scores import LIMITS, SegmentationScores, strata

BLUE, GREY = "#1f5fa8", "0.55"
SMALL = 8  # points


def summary_figure(result: SegmentationResult, scores: SegmentationScores) -> PIL.Image.Image:
    """Plot reliability with pixel counts, Dice rejection curves, and the Dice of each slice by lesion size."""
    figure = Figure(figsize=(11.4, 3.8), dpi=DPI)
    grid = GridSpec(1, 3, figure, left=0.055, right=0.99, bottom=0.14, top=0.9, wspace=0.24)
    left = grid[0].subgridspec(2, 1, height_ratios=(3.2, 1), hspace=0.09)
    axes = [figure.add_subplot(place) for place in (left[0], left[1], grid[1], grid[2])]
    bins = scores.bins.sum(axis=0)
    _reliability(axes[0], bins)
    _pixels(axes[1], bins[0])
    _rejection(axes[2], scores)
    _sizes(axes[3], result.area, scores.whole.dice)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=SMALL)
    return to_image(figure)


def _reliability(axis: Axes, bins: np.ndarray) -> None:
    pixels, probability, foreground = bins[:, bins[0] > 0]
    axis.plot((0, 1), (0, 1), color=GREY, linestyle="--", linewidth=1)
    axis.plot(probability / pixels, foreground / pixels, "o-", color=BLUE, markersize=4)
    axis.text(0.04, 0.9, f"ECE {expected_calibration_error(bins):.2g}", transform=axis.transAxes, fontsize=SMALL + 1)
    axis.set(xlim=(0, 1), ylim=(0, 1), xticklabels=[], ylabel="fraction of foreground")
    axis.set_title("Reliability", fontsize=10)


def _pixels(axis: Axes, pixels: np.ndarray) -> None:
    axis.bar((np.arange(BINS) + 0.5) / BINS, pixels, 0.9 / BINS, color=BLUE, alpha=0.5)
    axis.set(xlim=(0, 1), yscale="log", xlabel="probability of foreground", ylabel="pixels")


def _rejection(axis: Axes, scores: SegmentationScores) -> None:
    curves = {
        "errors first": (scores.best, GREY, ":"),
        "by uncertainty": (scores.rejection, BLUE, "-"),
        "at random": (scores.random, GREY, "--"),
    }
    for name, (curve, colour, line) in curves.items():
        axis.plot(100 * FRACTIONS, np.nanmean(curve, axis=0), line, color=colour, label=name)
    axis.set(
        xlim=(0, 100 * FRACTIONS[-1]), xlabel="pixels corrected by an oracle, %", ylabel="Dice, mean over subjects"
    )
    axis.set_title("Dice rejection curve", fontsize=10)
    axis.legend(fontsize=SMALL, frameon=False, loc="center right")


def _sizes(axis: Axes, area: np.ndarray, dice: np.ndarray) -> None:
    axis.plot(area[area > 0], dice[area > 0], "o", color=BLUE, alpha=0.35, markersize=4, markeredgewidth=0)
    lowest, highest = area[area > 0].min() / 1.3, area.max() * 1.3
    edges = np.clip((0, *LIMITS, np.inf), lowest, highest)
    for start, end, inside in zip(edges[:-1], edges[1:], strata(area).values(), strict=True):
        if inside.any():
            axis.plot((start, end), [dice[inside].mean()] * 2, color="black", linewidth=1.5)
    for limit in LIMITS:
        axis.axvline(limit, color=GREY, linestyle=":", linewidth=1)
    axis.set(xscale="log", xlim=(lowest, highest), ylim=(-0.03, 1.03), xlabel="area of the lesion, mm²", ylabel="Dice")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_title("Dice by lesion size; bars are means", fontsize=10)
