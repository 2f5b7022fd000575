"""What slices look like whoever took them: intensities, edges and texture, comparable across scanners.

Intensities of MR have no unit, so those of each slice are mapped by two percentiles of its foreground, the pixels
other than 0: `PERCENTILES` become 0 and 1. Between two sources there are three distances:

    intensity   Wasserstein-1 distance of the foreground's intensities, in parts of that range
    gradient    Wasserstein-1 distance of the gradient's magnitudes inside the foreground, per mm
    spectrum    root mean square difference of the radially averaged power spectra, dB, up to the lower Nyquist's
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import PIL.Image
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from scipy import ndimage
from scipy.stats import wasserstein_distance

from meddiffusers.data.preprocessing.intensities import foreground_window
from meddiffusers.evaluation.figures.panels import DPI, to_image

PERCENTILES = (1.0, 99.0)
LOWEST = 0.02  # cycles per mm: slower than that is the shape of the head
BINS = 48  # of frequencies
EXAMPLES = 3  # images of each source in the figure
Source = tuple[np.ndarray, float]  # slices (N, H, W) in their own units, 0 outside; edge length of a pixel, mm


@dataclass(frozen=True)
class Distances:
    """Of two sources: intensity (1), gradient (1/mm), spectrum (dB); 0 where they are the same."""

    intensity: float
    gradient: float
    spectrum: float


@dataclass(frozen=True, eq=False)
class Appearance:
    """Of one source: intensities (P,) and gradients (Q,), 1/mm, of its pixels; power (F,), mm², by frequency, 1/mm."""

    intensities: np.ndarray
    gradients: np.ndarray
    frequencies: np.ndarray
    power: np.ndarray

    def distances(self, other: Appearance) -> Distances:
        """How far the other one is."""
        highest = min(self.frequencies[-1], other.frequencies[-1])
        common = np.linspace(LOWEST, highest, BINS)
        decibels = [10 * np.log10(np.interp(common, one.frequencies, one.power)) for one in (self, other)]
        return Distances(
            float(wasserstein_distance(self.intensities, other.intensities)),
            float(wasserstein_distance(self.gradients, other.gradients)),
            float(np.sqrt(np.mean((decibels[0] - decibels[1]) ** 2))),
        )


def normalised(slices: np.ndarray) -> np.ndarray:
    """Slices (N, H, W), each with the percentiles of its foreground at 0 and 1, not clipped; outside it NaN.

    Raises:
        ValueError: another shape, or a slice whose foreground is empty, not finite or without contrast.
    """
    if slices.ndim != 3 or not len(slices):
        raise ValueError(f"Got slices of shape {slices.shape}; expected (N, H, W), N at least 1.")
    windows = [foreground_window(image, PERCENTILES, f"slice {number}") for number, image in enumerate(slices)]
    dark, bright = np.array(windows).T[:, :, None, None]
    return np.where(slices == 0, np.nan, (slices - dark) / (bright - dark))


def appearance(slices: np.ndarray, spacing: float) -> Appearance:
    """Appearance of slices (N, H, W) with square pixels of `spacing` mm, 0 outside the foreground.

    Raises:
        ValueError: as `normalised`, or a spacing that is not above 0.
    """
    if not 0 < spacing < np.inf:
        raise ValueError(f"spacing={spacing!r}; expected the edge length of a pixel, mm.")
    images = normalised(slices)
    return Appearance(images[~np.isnan(images)], gradients(images, spacing), *power_spectrum(images, spacing))


def gradients(images: np.ndarray, spacing: float) -> np.ndarray:
    """(Q,) magnitudes per mm by central differences, where a pixel's four neighbours are not NaN either."""
    down, across = np.gradient(images, spacing, axis=(1, 2))
    down[:, [0, -1]] = across[:, :, [0, -1]] = np.nan  # one-sided differences see more noise
    magnitudes = np.hypot(down, across)[~np.isnan(images)]
    return magnitudes[~np.isnan(magnitudes)]


def power_spectrum(images: np.ndarray, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies (F,), 1/mm, up to Nyquist's, and power density (F,), mm², averaged over directions and images.

    The mean is taken off and what is NaN counts as 0; the power is that of a mm² of foreground, so that neither the
    field of view nor the size of pixels changes it: white noise of variance v has v · spacing² everywhere.
    """
    foreground = ~np.isnan(images)
    filled = np.where(foreground, images - np.nanmean(images), 0)
    power = (np.abs(np.fft.fft2(filled)) ** 2).sum(axis=0) * spacing**2 / foreground.sum()
    down, across = (np.fft.fftfreq(length, spacing) for length in images.shape[1:])
    distance = np.hypot(down[:, None], across)
    width = 1 / (spacing * min(images.shape[1:]))  # of one bin
    rings = np.rint(distance / width).astype(int)
    frequencies = np.arange(1, int(0.5 / spacing / width) + 1)
    return frequencies * width, ndimage.mean(power, rings, frequencies)


def realism_figure(sources: Mapping[str, Source]) -> PIL.Image.Image:
    """Examples of each source side by side, and below them intensities, gradients and spectra laid over each other."""
    figure = Figure(figsize=(2.1 * max(len(sources), 4), 2.1 * EXAMPLES + 3.4), dpi=DPI)
    grid = GridSpec(
        2, 1, figure, height_ratios=(2.1 * EXAMPLES, 2.7), left=0.06, right=0.99, bottom=0.07, top=0.96, hspace=0.12
    )
    examples = grid[0].subgridspec(EXAMPLES, len(sources), wspace=0.03, hspace=0.03)
    curves = grid[1].subgridspec(1, 3, wspace=0.25)
    histogram, edges, spectrum = (figure.add_subplot(curves[column]) for column in range(3))
    for column, (name, (slices, spacing)) in enumerate(sources.items()):
        images = np.nan_to_num(normalised(slices).clip(0, 1))
        chosen = np.linspace(0, len(images) - 1, EXAMPLES + 2).round().astype(int)[1:-1]
        for row, number in enumerate(chosen):
            axis = figure.add_subplot(examples[row, column])
            axis.imshow(images[number], cmap="gray", vmin=0, vmax=1)
            axis.axis("off")
            if row == 0:
                axis.set_title(name, fontsize=9)
        look = appearance(slices, spacing)
        histogram.plot(*_density(look.intensities, -0.1, 1.2), label=name)
        edges.plot(*_density(look.gradients, 0, 0.4), label=name)
        spectrum.plot(look.frequencies, look.power, label=name)
    histogram.set(xlabel=f"intensity (percentiles {PERCENTILES[0]:g} and {PERCENTILES[1]:g} at 0 and 1)")
    histogram.set(ylabel="density")
    edges.set(xlabel="gradient, 1/mm", yscale="log")
    spectrum.set(xlabel="frequency, 1/mm", ylabel="power density, mm²", xscale="log", yscale="log")
    histogram.legend(fontsize=8, frameon=False)
    return to_image(figure)


def _density(values: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Middles of 60 bins, and how dense the values lie in each; those beyond count in no bin, but in the total."""
    counts, edges = np.histogram(values, 60, (low, high))
    return (edges[1:] + edges[:-1]) / 2, counts / values.size / (edges[1] - edges[0])
