"""A heart's sequence to look at: frames side by side, attributes over time, and a film."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import PIL.Image
from matplotlib.figure import Figure

from meddiffusers.evaluation.figures.panels import DPI, panel, to_image
from meddiffusers.pipelines.meddiffusers_heart_shapes_v1 import CARDIAC_ATTRIBUTES

SHOWN = 12  # frames of a sequence that is drawn
PLOTTED = ("lv_area", "lv_length", "base_width", "orientation", "myo_area")
STYLES = (
    {"color": "0.7", "linewidth": 4},
    {"color": "tab:red", "marker": ".", "linewidth": 0.7},
    {"color": "tab:blue"},
)
COLOURS = np.array([[0, 0, 0], [230, 75, 60], [70, 130, 230], [250, 200, 60]], np.uint8)  # by label
MARGIN, HEIGHT, SECONDS = 6, 360, 2.5  # pixels around the heart and of the film; of a beat in it


def frames_panel(rows: Mapping[str, np.ndarray], redrawn: np.ndarray) -> PIL.Image.Image:
    """Label maps (T, H, W) by name: frames that were drawn anew, and others evenly spread between them."""
    wanted = [*np.flatnonzero(redrawn), *np.linspace(0, len(redrawn) - 1, SHOWN).round().astype(int)]
    chosen = sorted(dict.fromkeys(wanted[: max(SHOWN, 2)]))
    around = _around(np.concatenate(list(rows.values())))
    first = next(iter(rows))
    return panel(
        {name: list(COLOURS[labels[chosen][:, *around]] / 255) for name, labels in rows.items()},
        {first: [f"{t}{', drawn anew' if redrawn[t] else ''}" for t in chosen]},
        ranges=dict.fromkeys(rows, (0.0, 1.0)),
    )


def curves(attributes: Mapping[str, np.ndarray]) -> PIL.Image.Image:
    """Attributes (T, 7) by name, over the frames; three names at most."""
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


def film(rows: Mapping[str, np.ndarray], path: Path) -> None:
    """An animated GIF of label maps (T, H, W) beside each other, one beat in two and a half seconds, for ever."""
    around = _around(np.concatenate(list(rows.values())))
    frames = [
        np.concatenate(
            [
                np.pad(COLOURS[labels[:, *around][t]], ((0, 0), (0, 2), (0, 0)), constant_values=255)
                for labels in rows.values()
            ],
            axis=1,
        )
        for t in range(len(next(iter(rows.values()))))
    ]
    scale = max(1, HEIGHT // frames[0].shape[0])
    images = [PIL.Image.fromarray(frame.repeat(scale, axis=0).repeat(scale, axis=1)) for frame in frames]
    temporary = path.with_name(f".{path.name}.tmp")
    images[0].save(
        temporary,
        format="GIF",
        save_all=True,
        append_images=images[1:],
        duration=round(1000 * SECONDS / len(frames)),
        loop=0,
    )
    temporary.replace(path)


def _around(labels: np.ndarray) -> tuple[slice, slice]:
    """Where in label maps (N, H, W) anything is."""
    places = [np.flatnonzero((labels > 0).any(axis=(0, axis))) for axis in (2, 1)]
    return tuple(
        slice(max(0, side.min() - MARGIN), side.max() + MARGIN) if side.size else slice(None) for side in places
    )  # type: ignore[return-value]
