"""Figures of a cardiac sequence: frames side by side, attributes over time, and an animation."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import PIL.Image
from matplotlib.figure import Figure

from meddiffusers.evaluation.figures.panels import DPI, panel, to_image
from meddiffusers.pipelines.meddiffusers_cardiac_attributes_v1 import CARDIAC_ATTRIBUTES
from meddiffusers.pipelines.temporal_consistency_pipeline import TemporalConsistencyPipelineOutput
from meddiffusers.utils.atomic import atomic_path

SHOWN = 12  # frames of a sequence in a panel
PLOTTED = ("lv_area", "lv_length", "base_width", "orientation", "myo_area")
STYLES = (
    {"color": "0.7", "linewidth": 4},
    {"color": "tab:red", "marker": ".", "linewidth": 0.7},
    {"color": "tab:blue"},
)
COLOURS = np.array([[0, 0, 0], [230, 75, 60], [70, 130, 230], [250, 200, 60]], np.uint8)  # by label
MARGIN, HEIGHT = 6, 360  # pixels: around the heart, height of the animation
LINE, CHARACTER = 0.14, 7  # height of a line in inches, width of a character in pixels
SECONDS = 2.5  # duration of a cardiac cycle in the animation


def frames_panel(rows: Mapping[str, np.ndarray], regenerated: np.ndarray) -> PIL.Image.Image:
    """Show frames of label maps side by side: regenerated frames, and evenly spaced ones.

    Args:
        rows: Label maps `(T, H, W)` by the name of the row.
        regenerated: Mask `(T,)`, bool, of regenerated frames.
    """
    candidates = [*np.flatnonzero(regenerated), *np.linspace(0, len(regenerated) - 1, SHOWN).round().astype(int)]
    chosen = sorted(dict.fromkeys(candidates[: max(SHOWN, 2)]))
    box = _bounding_box(np.concatenate(list(rows.values())))
    first = next(iter(rows))
    return panel(
        {name: list(COLOURS[labels[chosen][:, *box]] / 255) for name, labels in rows.items()},
        {first: [f"{t}{', regenerated' if regenerated[t] else ''}" for t in chosen]},
        ranges=dict.fromkeys(rows, (0.0, 1.0)),
    )


def attribute_curves(attributes: Mapping[str, np.ndarray]) -> PIL.Image.Image:
    """Plot attributes over time.

    Args:
        attributes: Attributes `(T, 7)` in the order of `CARDIAC_ATTRIBUTES`, by name; three names at most.
    """
    figure = Figure(figsize=(2.6 * len(PLOTTED), 2.4), dpi=DPI)
    styles = STYLES[-len(attributes) :]
    for axis, name in zip(figure.subplots(1, len(PLOTTED)), PLOTTED, strict=True):
        column = list(CARDIAC_ATTRIBUTES).index(name)
        for (title, values), style in zip(attributes.items(), styles, strict=True):
            axis.plot(values[:, column], label=title, **style)
        axis.set_title(f"{name.replace('_', ' ')} [{CARDIAC_ATTRIBUTES[name]}]", fontsize=8)
        axis.tick_params(labelsize=6)
    figure.axes[0].legend(fontsize=6)
    figure.tight_layout()
    return to_image(figure)


def with_heading(image: PIL.Image.Image, result: TemporalConsistencyPipelineOutput) -> PIL.Image.Image:
    """Put the ejection fraction, and warnings if there are any, above a figure of a corrected sequence."""
    lines = [(ejection_fraction_line(result), "black"), *((text, "tab:red") for text in result.warnings)]
    wrapped = [(part, colour) for text, colour in lines for part in textwrap.wrap(text, image.width // CHARACTER)]
    figure = Figure(figsize=(image.width / DPI, (len(wrapped) + 0.5) * LINE), dpi=DPI)
    for row, (text, colour) in enumerate(wrapped):
        figure.text(0.01, 1 - (row + 0.8) / (len(wrapped) + 0.5), text, color=colour, fontsize=7, va="center")
    heading = to_image(figure).convert("RGB")
    result_image = PIL.Image.new("RGB", (image.width, heading.height + image.height), "white")
    result_image.paste(heading, (0, 0))
    result_image.paste(image.convert("RGB"), (0, heading.height))
    return result_image


def ejection_fraction_line(result: TemporalConsistencyPipelineOutput) -> str:
    """Say the ejection fraction before and after, with the intervals that the jitter explains."""
    texts = []
    for report in (result.before, result.after):
        low, high = report.ejection_fraction_interval
        interval = f" ({100 * low:.0f} to {100 * high:.0f} with this jitter)" if np.isfinite(low) else ""
        texts.append(f"{100 * report.ejection_fraction:.1f} %{interval}")
    return f"Ejection fraction, area–length: {' → '.join(texts)}"


def save_film(rows: Mapping[str, np.ndarray], path: Path) -> None:
    """Save a looping GIF animation of label maps `(T, H, W)` side by side; a cardiac cycle takes 2.5 seconds."""
    box = _bounding_box(np.concatenate(list(rows.values())))
    frames = [
        np.concatenate(
            [
                np.pad(COLOURS[labels[:, *box][t]], ((0, 0), (0, 2), (0, 0)), constant_values=255)
                for labels in rows.values()
            ],
            axis=1,
        )
        for t in range(len(next(iter(rows.values()))))
    ]
    scale = max(1, HEIGHT // frames[0].shape[0])
    images = [PIL.Image.fromarray(frame.repeat(scale, axis=0).repeat(scale, axis=1)) for frame in frames]
    with atomic_path(path) as staged:
        images[0].save(
            staged,
            format="GIF",
            save_all=True,
            append_images=images[1:],
            duration=round(1000 * SECONDS / len(frames)),
            loop=0,
        )


def _bounding_box(labels: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of label maps (N, H, W) that are not background, with a margin."""
    sides = [np.flatnonzero((labels > 0).any(axis=(0, axis))) for axis in (2, 1)]
    return tuple(
        slice(max(0, side.min() - MARGIN), side.max() + MARGIN) if side.size else slice(None) for side in sides
    )  # type: ignore[return-value]
