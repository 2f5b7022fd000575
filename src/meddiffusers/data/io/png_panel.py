"""Show a scan as one PNG: three orthogonal planes of a volume, or the frames of a slice.

Planes are parallel to the axes of the scan nearest to the patient's axes, with true proportions, in radiological
orientation as in `preprocessing.slices`. Grey levels range from the 1st to the 99th percentile of a channel's non-zero
voxels. The colour of a label is the same in all scans.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.orientations import apply_orientation, io_orientation
from PIL import Image, ImageDraw

from meddiffusers.data.labels import label_colour
from meddiffusers.data.scan import Scan
from meddiffusers.utils.atomic import atomic_path

SIDE = 240  # pixels of the longest edge of a volume
CAPTION = 16
GAP = 4
MOST_FRAMES = 12
FRAMES_IN_A_ROW = 4
OPACITY = 0.45
FOREGROUND = 0.1  # fraction of the 99th percentile


@dataclass(frozen=True, eq=False)
class _View:
    """Voxels along the patient's axes: channels (C, X, Y, Z), labels (X, Y, Z) if any, and spacing in mm."""

    channels: np.ndarray
    labels: np.ndarray | None
    spacing: np.ndarray


def scan_panel(scan: Scan, labels: Scan | None = None) -> Image.Image:
    """Render a scan: one row of three planes per channel of a volume, or one image per channel of a slice, at most 12.

    Channels with the same name are frames, numbered from 0.

    Args:
        scan: to render.
        labels: label map on the same grid, shown as an overlay; the planes then pass through its centre.

    Raises:
        ValueError: labels on another grid.
    """
    if labels is not None and (labels.shape != scan.shape or not np.allclose(labels.affine, scan.affine, atol=1e-2)):
        raise ValueError(f"Got labels of shape {labels.shape} for a scan of {scan.shape}; expected one grid and place.")
    view = _view(scan, labels)
    shape, names = view.channels.shape[1:], [name or "scan" for name in scan.modality]
    if 1 not in shape:
        edges = " x ".join(f"{edge:.3g}" for edge in view.spacing)
        captions = [f"{_caption(names, [row])}   {edges} mm" for row in range(len(names))]
        return _sheet([[_tile(view, row, axis) for axis in (2, 1, 0)] for row in range(len(names))], captions)
    chosen = np.linspace(0, len(names) - 1, min(len(names), MOST_FRAMES)).round().astype(int).tolist()
    rows = [chosen[start : start + FRAMES_IN_A_ROW] for start in range(0, len(chosen), FRAMES_IN_A_ROW)]
    captions = [_caption(names, row) for row in rows]
    return _sheet([[_tile(view, each, shape.index(1)) for each in row] for row in rows], captions)


def write_panel(scan: Scan, path: Path, labels: Scan | None = None) -> None:
    """Write the panel of a scan as PNG, optionally with labels as an overlay."""
    with atomic_path(path) as staged:
        scan_panel(scan, labels).save(staged)


def _caption(names: list[str], shown: list[int]) -> str:
    """Names of the shown channels, or the numbers of the frames if all have one name."""
    if len(names) > 1 and len({*names}) == 1:
        return f"{names[0]}   frame{'s' * (len(shown) > 1)} {', '.join(map(str, shown))}"
    return ", ".join(names[each] for each in shown)


def _view(scan: Scan, labels: Scan | None) -> _View:
    turn = io_orientation(scan.affine)
    channels = np.stack([apply_orientation(channel, turn) for channel in scan.array])
    spacing = np.array(scan.spacing)[np.argsort(turn[:, 0])]
    if labels is not None:
        return _View(channels, apply_orientation(labels.array[0], turn), spacing)
    if scan.is_labels:  # colours on black
        return _View(np.zeros_like(channels), channels[0], spacing)
    return _View(channels, None, spacing)


def _tile(view: _View, channel: int, axis: int) -> Image.Image:
    """The plane across an axis through the centre of the labels, or else of the channel's foreground."""
    volume = np.nan_to_num(view.channels[channel].astype(np.float32))
    marked = view.labels if view.labels is not None and view.labels.any() else None
    centre = _centre(volume > FOREGROUND * np.percentile(volume, 99) if marked is None else marked != 0)
    low, high = np.percentile(volume[volume != 0], (1, 99)) if volume.any() else (0.0, 1.0)
    grey = np.clip((np.take(volume, centre[axis], axis) - low) / max(high - low, 1e-6), 0, 1)
    across, up = (each for each in range(3) if each != axis)
    scale = view.spacing * SIDE / max(view.spacing * volume.shape)
    size = tuple(max(1, round(volume.shape[each] * scale[each])) for each in (across, up))
    image = Image.fromarray(_upright(255 * grey).astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
    if marked is None:
        return image.convert("RGB")
    plane = _upright(np.take(marked, centre[axis], axis))
    colours, shown = np.zeros((*plane.shape, 3), np.uint8), np.where(plane != 0, round(255 * OPACITY), 0)
    for label in np.unique(plane[(plane != 0) & np.isfinite(plane)]).tolist():
        colours[plane == label] = label_colour(round(label))
    mask = Image.fromarray((shown if volume.any() else 255 * (plane != 0)).astype(np.uint8))
    paint = Image.fromarray(colours).resize(size, Image.Resampling.NEAREST)
    return Image.composite(paint, image.convert("RGB"), mask.resize(size, Image.Resampling.NEAREST))


def _upright(plane: np.ndarray) -> np.ndarray:
    """Convert a plane (across, up) in RAS+ to image rows from top to bottom and columns from left to right."""
    return plane.T[::-1, ::-1]


def _centre(mask: np.ndarray) -> list[int]:
    """Index of the centroid of the mask, or of the middle if it is empty."""
    counts = [mask.sum(axis=tuple(other for other in range(3) if other != axis)) for axis in range(3)]
    if not mask.any():
        return [len(count) // 2 for count in counts]
    return [round(float(np.average(np.arange(len(count)), weights=count))) for count in counts]


def _sheet(rows: list[list[Image.Image]], captions: list[str]) -> Image.Image:
    """Arrange tiles in rows on black, each row below its caption."""
    heights = [max(tile.height for tile in row) for row in rows]
    width = max(sum(tile.width + GAP for tile in row) for row in rows) - GAP
    sheet = Image.new("RGB", (width, sum(heights) + CAPTION * len(rows)))
    pen, top = ImageDraw.Draw(sheet), 0
    for row, height, caption in zip(rows, heights, captions, strict=True):
        pen.text((2, top + 2), caption, fill="white")
        left, top = 0, top + CAPTION
        for tile in row:
            sheet.paste(tile, (left, top + (height - tile.height) // 2))
            left += tile.width + GAP
        top += height
    return sheet
