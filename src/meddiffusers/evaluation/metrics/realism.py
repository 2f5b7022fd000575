"""Appearance of slices: intensities, edges and texture, comparable across scanners.

MR intensities have no unit, so each slice is normalised: two percentiles of its foreground (the pixels other than 0),
`PERCENTILES`, become 0 and 1. Three distances compare two sources:

    intensity   Wasserstein-1 distance of the foreground intensities, as a fraction of that range
    gradient    Wasserstein-1 distance of the gradient magnitudes inside the foreground, 1/mm
    spectrum    RMS difference of the radially averaged power spectra, dB, up to the lower Nyquist frequency
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
LOWEST = 0.02  # cycles per mm; lower frequencies are the shape of the head
BINS = 48  # frequency bins
EXAMPLES = 3  # slices of each source in the figure
Source = tuple[np.ndarray, float]  # slices (N, H, W) in their own units, 0 outside; edge length of a pixel, mm


@dataclass(frozen=True)
class Distances:
    """Distances between two sources: intensity (1), gradient (1/mm), spectrum (dB); 0 for equal sources."""

    intensity: float
    gradient: float
    spectrum: float


@dataclass(frozen=True, eq=False)
class Appearance:
    """Intensities (P,), gradients (Q,) in 1/mm, and power (F,) in mm² at frequencies (F,) in 1/mm, of one source."""

    intensities: np.ndarray
    gradients: np.ndarray
    frequencies: np.ndarray
    power: np.ndarray

    def distances(self, other: Appearance) -> Distances:
        """Distances to another source."""
        highest = min(self.frequencies[-1], other.frequencies[-1])
        common = np.linspace(LOWEST, highest, BINS)
        decibels = [10 * np.log10(np.interp(common, one.frequencies, one.power)) for one in (self, other)]
        return Distances(
            float(wasserstein_distance(self.intensities, other.intensities)),
            float(wasserstein_distance(self.gradients, other.gradients)),
            float(np.sqrt(np.mean((decibels[0] - decibels[1]) ** 2))),
        )


def normalise(slices: np.ndarray) -> np.ndarray:
    """Normalise slices (B, H, W) by the percentiles of their foreground, without clipping; the background becomes NaN.

    Raises:
        ValueError: Other shapes, or a slice with an empty, constant or non-finite foreground.
    """
    if slices.ndim != 3 or not len(slices):
        raise ValueError(f"Got slices of shape {slices.shape}; expected (B, H, W), B at least 1.")
    windows = [foreground_window(image, PERCENTILES, f"slice {i}") for i, image in enumerate(slices)]
    dark, bright = np.array(windows).T[:, :, None, None]
    return np.where(slices == 0, np.nan, (slices - dark) / (bright - dark))


def appearance(slices: np.ndarray, spacing: float) -> Appearance:
    """Measure the appearance of slices.

    Args:
        slices: (B, H, W), 0 in the background.
        spacing: Edge length of the square pixels in mm.

    Raises:
        ValueError: As `normalise`, or the spacing is not positive.
    """
    if not 0 < spacing < np.inf:
        raise ValueError(f"spacing={spacing!r}; expected the edge length of a pixel, mm.")
    images = normalise(slices)
    return Appearance(images[~np.isnan(images)], gradients(images, spacing), *power_spectrum(images, spacing))


def gradients(images: np.ndarray, spacing: float) -> np.ndarray:
    """(Q,) gradient magnitudes in 1/mm by central differences, where no pixel or neighbour is NaN."""
    down, across = np.gradient(images, spacing, axis=(1, 2))
    down[:, [0, -1]] = across[:, :, [0, -1]] = np.nan  # one-sided differences are noisier
    magnitudes = np.hypot(down, across)[~np.isnan(images)]
    return magnitudes[~np.isnan(magnitudes)]


def power_spectrum(images: np.ndarray, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Radially averaged power spectrum of all images.

    The mean is subtracted and NaN count as 0. The power is per mm² of foreground and therefore independent of field of
    view and pixel size: white noise of variance v has v · spacing² at every frequency.

    Args:
        images: (B, H, W), NaN in the background.
        spacing: Edge length of the square pixels in mm.

    Returns:
        Frequencies (F,) in 1/mm up to the Nyquist frequency, and power density (F,) in mm².
    """
    foreground = ~np.isnan(images)
    filled = np.where(foreground, images - np.nanmean(images), 0)
    power = (np.abs(np.fft.fft2(filled)) ** 2).sum(axis=0) * spacing**2 / foreground.sum()
    down, across = (np.fft.fftfreq(length, spacing) for length in images.shape[1:])
    distance = np.hypot(down[:, None], across)
    width = 1 / (spacing * min(images.shape[1:]))  # width of a bin
    rings = np.rint(distance / width).astype(int)
    frequencies = np.arange(1, int(0.5 / spacing / width) + 1)
    return frequencies * width, ndimage.mean(power, rings, frequencies)


def realism_figure(sources: Mapping[str, Source]) -> PIL.Image.Image:
    """Plot examples of each source side by side, and below them densities of intensities and gradients, and spectra."""
    figure = Figure(figsize=(2.1 * max(len(sources), 4), 2.1 * EXAMPLES + 3.4), dpi=DPI)
    grid = GridSpec(
        2, 1, figure, height_ratios=(2.1 * EXAMPLES, 2.7), left=0.06, right=0.99, bottom=0.07, top=0.96, hspace=0.12
    )
    examples = grid[0].subgridspec(EXAMPLES, len(sources), wspace=0.03, hspace=0.03)
    curves = grid[1].subgridspec(1, 3, wspace=0.25)
    histogram, edges, spectrum = (figure.add_subplot(curves[column]) for column in range(3))
    for column, (name, (slices, spacing)) in enumerate(sources.items()):
        images = np.nan_to_num(normalise(slices).clip(0, 1))
        chosen = np.linspace(0, len(images) - 1, EXAMPLES + 2).round().astype(int)[1:-1]
        for row, index in enumerate(chosen):
            axis = figure.add_subplot(examples[row, column])
            axis.imshow(images[index], cmap="gray", vmin=0, vmax=1)
            axis.axis("off")
            if row == 0:
                axis.set_title(name, fontsize=9)
        measured = appearance(slices, spacing)
        histogram.plot(*_density(measured.intensities, -0.1, 1.2), label=name)
        edges.plot(*_density(measured.gradients, 0, 0.4), label=name)
        spectrum.plot(measured.frequencies, measured.power, label=name)
    histogram.set(xlabel=f"intensity (percentiles {PERCENTILES[0]:g} and {PERCENTILES[1]:g} at 0 and 1)")
    histogram.set(ylabel="density")
    edges.set(xlabel="gradient, 1/mm", yscale="log")
    spectrum.set(xlabel="frequency, 1/mm", ylabel="power density, mm²", xscale="log", yscale="log")
    histogram.legend(fontsize=8, frameon=False)
    return to_image(figure)


def _density(values: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Centres of 60 bins and the density of the values; values outside count only in the total."""
    counts, edges = np.histogram(values, 60, (low, high))
    return (edges[1:] + edges[:-1]) / 2, counts / values.size / (edges[1] - edges[0])
