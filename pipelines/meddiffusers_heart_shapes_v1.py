"""Seven attributes of the left ventricle in label maps: 1 cavity, 2 wall, all else outside (Painchaud et al. 2022).

A file of plain functions that published pipelines import from beside them; it is published with each.

lv_area        area of the cavity                                                                        mm²
lv_length      middle of the base to the apex, the farthest point of the cavity                          mm
base_width     of the base, where the cavity meets neither wall nor itself                               mm
orientation    long principal axis of the cavity to the vertical, positive where the apex leans right    degrees
myo_area       area of the wall                                                                          mm²
epi_x, epi_y   centre of mass of cavity and wall: right of the image's middle, below its upper edge    mm

Base and apex are found between the pixels, so that a sequence's second differences do not see pixels:

    base   B = ∫ (c ∇o − o ∇c), of cavity c and outside o, both blurred: its normal, as long as the base is wide;
           its middle is where the integrand's length lies on average
    apex   of the pixels ordered along the axis, the area above height h grows as (apex − h)^{3/2}, as of any round
           tip; two such heights give the apex
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

PUBLISHED_AS = "meddiffusers_heart_shapes_v1"  # file name in a repository; here the same, so that both find it
CAVITY, WALL = 1, 2
CARDIAC_ATTRIBUTES = {
    "lv_area": "mm²",
    "lv_length": "mm",
    "base_width": "mm",
    "orientation": "°",
    "myo_area": "mm²",
    "epi_x": "mm",
    "epi_y": "mm",
}
BLUR, CORNERS = 1.0, 0.65  # pixels; what its corners lose of the base by the blur, as measured on phantoms
TIP = (12.0, 36.0)  # pixels of area above the two heights
LEAST = 60  # pixels of cavity, and of wall, that can be measured


def measure_hearts(labels: np.ndarray, spacing: float | tuple[float, float] = 1.0) -> np.ndarray:
    """(N, 7) in the order of `CARDIAC_ATTRIBUTES` of label maps (N, H, W); NaN where there is too little to measure.

    spacing: mm from row to row and from column to column, or of both.

    Raises:
        ValueError: another number of axes, or a spacing that is not above 0.
    """
    rows, columns = (spacing, spacing) if isinstance(spacing, int | float) else spacing
    if labels.ndim != 3 or not (rows > 0 and columns > 0):
        raise ValueError(
            f"Got label maps of shape {labels.shape} and spacing {spacing}; expected (N, H, W), and mm above 0."
        )
    if not len(labels):
        return np.empty((0, len(CARDIAC_ATTRIBUTES)))
    cavity, wall = labels == CAVITY, labels == WALL
    _, height, width = labels.shape
    y = (np.arange(height) + 0.5) * rows
    x = (np.arange(width) + 0.5 - width / 2) * columns
    pixel = rows * columns
    with np.errstate(invalid="ignore", divide="ignore"):
        base, middle = _base(cavity, ~(cavity | wall), y, x, (rows, columns))
        centre = _centre(cavity | wall, y, x)
        values = np.stack(
            [
                cavity.sum(axis=(1, 2)) * pixel,
                _length(cavity, middle, y, x, pixel),
                base,
                _orientation(cavity, y, x),
                wall.sum(axis=(1, 2)) * pixel,
                centre[:, 1],
                centre[:, 0],
            ],
            axis=1,
        )
    measurable = (cavity.sum(axis=(1, 2)) >= LEAST) & (wall.sum(axis=(1, 2)) >= LEAST)
    values[~measurable] = np.nan
    return values


def area_length_volumes(attributes: np.ndarray) -> np.ndarray:
    """(N,) ml of the cavity by its area and length in one view, 8 A² / (3π L), of attributes (N, 7)."""
    area, length = attributes[:, 0], attributes[:, 1]
    return 8 * area**2 / (3 * np.pi * length) / 1000


def ejection_fraction(volumes: np.ndarray) -> float:
    """(largest − smallest) / largest of volumes (N,) over a beat; NaN where none is known."""
    known = volumes[np.isfinite(volumes)]
    return float(1 - known.min() / known.max()) if known.size else float("nan")


def upside_down(labels: np.ndarray) -> bool:
    """Whether the bases in label maps (N, H, W) lie above the cavities' middles, as where the rows run upwards."""
    cavity, wall = labels == CAVITY, labels == WALL
    rows, columns = (np.arange(side, dtype=float) for side in labels.shape[1:])
    with np.errstate(invalid="ignore", divide="ignore"):
        _, base = _base(cavity, ~(cavity | wall), rows, columns, (1.0, 1.0))
        below = base[:, 0] - _centre(cavity, rows, columns)[:, 0]
    return bool(np.isfinite(below).any() and np.nanmedian(below) < 0)


def _base(
    cavity: np.ndarray, outside: np.ndarray, y: np.ndarray, x: np.ndarray, spacing: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Width (N,) and middle (N, 2), y and x in mm, of where the cavity meets the outside."""
    c, o = (ndimage.gaussian_filter(mask.astype(np.float64), (0, BLUR, BLUR)) for mask in (cavity, outside))
    gradients = [
        (np.gradient(o, edge, axis=axis), np.gradient(c, edge, axis=axis))
        for axis, edge in ((1, spacing[0]), (2, spacing[1]))
    ]
    meeting = [c * of_o - o * of_c for of_o, of_c in gradients]
    pixel = spacing[0] * spacing[1]
    vector = np.stack([part.sum(axis=(1, 2)) * pixel for part in meeting], axis=1)
    weight = np.hypot(*meeting)
    total = weight.sum(axis=(1, 2))
    middle = np.stack([(weight.sum(axis=2) @ y) / total, (weight.sum(axis=1) @ x) / total], axis=1)
    return np.linalg.norm(vector, axis=1) + CORNERS * np.sqrt(pixel), middle


def _length(cavity: np.ndarray, middle: np.ndarray, y: np.ndarray, x: np.ndarray, pixel: float) -> np.ndarray:
    """(N,) mm from the middle of the base to the apex."""
    dy, dx = y[None, :, None] - middle[:, 0, None, None], x[None, None, :] - middle[:, 1, None, None]
    distance = np.where(cavity, np.hypot(dy, dx), -np.inf).reshape(len(cavity), -1)
    farthest = distance.argmax(axis=1)
    row, column = np.unravel_index(farthest, cavity.shape[1:])
    axis = np.stack([y[row] - middle[:, 0], x[column] - middle[:, 1]], axis=1)
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    along = dy * axis[:, 0, None, None] + dx * axis[:, 1, None, None]
    heights = -np.sort(-np.where(cavity, along, -np.inf).reshape(len(cavity), -1), axis=1)
    first, second = (_height_below(heights, area) for area in TIP)
    grown = [area ** (2 / 3) for area in TIP]
    return first + (first - second) * grown[0] / (grown[1] - grown[0])


def _height_below(heights: np.ndarray, area: float) -> np.ndarray:
    """(N,) the height that so many pixels lie above, of falling heights (N, P); their own extent evens out."""
    count = int(area)
    spread = slice(count - count // 4, count + count // 4)
    return heights[:, spread].mean(axis=1)


def _centre(mask: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(N, 2) centre of mass, y and x in mm."""
    count = mask.sum(axis=(1, 2))
    return np.stack([(mask.sum(axis=2) @ y) / count, (mask.sum(axis=1) @ x) / count], axis=1)


def _orientation(mask: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(N,) degrees, within ±90."""
    count, centre = mask.sum(axis=(1, 2)), _centre(mask, y, x)
    yy = (mask.sum(axis=2) @ y**2) / count - centre[:, 0] ** 2
    xx = (mask.sum(axis=1) @ x**2) / count - centre[:, 1] ** 2
    xy = np.einsum("nhw,h,w->n", mask.astype(np.float64), y, x) / count - centre[:, 0] * centre[:, 1]
    return np.rad2deg(0.5 * np.arctan2(-2 * xy, yy - xx))
