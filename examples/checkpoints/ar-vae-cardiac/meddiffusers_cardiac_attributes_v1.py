"""Seven shape attributes of the left ventricle, measured in label maps (Painchaud et al., IEEE TMI 2022).

Functions that published pipelines import from beside them. The file is published with each of these pipelines.

| attribute | meaning | unit |
|---|---|---|
| lv_area | area of the left-ventricular cavity (LV) | mm² |
| lv_length | distance from the middle of the base to the apex | mm |
| base_width | width of the base, where the LV meets neither myocardium nor itself | mm |
| orientation | angle of the LV's long principal axis to the vertical, positive if the apex leans right | degrees |
| myo_area | area of the myocardium (MYO) | mm² |
| epi_x, epi_y | centre of mass of LV and MYO: right of the image's middle, below its upper edge | mm |

Base and apex are located with subpixel accuracy, so that second differences over time do not show the pixel grid:

    base   B = ∫ (c ∇o − o ∇c), with blurred masks c of the LV and o of the outside. B is normal to the base and as long
           as the base is wide. The base's middle is the mean position, weighted by the length of the integrand.
    apex   The area of the LV above height h along the long axis grows as (apex − h)^{3/2} for any round tip. The
           heights above which two given areas lie determine the apex.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .meddiffusers_cardiac_labels_v1 import LV, MYO

PUBLISHED_AS = "meddiffusers_cardiac_attributes_v1"  # the file has the same name in a repository
CARDIAC_ATTRIBUTES = {
    "lv_area": "mm²",
    "lv_length": "mm",
    "base_width": "mm",
    "orientation": "°",
    "myo_area": "mm²",
    "epi_x": "mm",
    "epi_y": "mm",
}
BLUR = 1.0  # standard deviation in pixels
BASE_BIAS = 0.65  # pixels by which the blur shortens the base at its two corners, as measured on phantoms
TIP_AREAS = (12.0, 36.0)  # pixels of LV above the two heights that determine the apex
MIN_PIXELS = 60  # of LV and of MYO; smaller ones are not measured


def measure_cardiac_attributes(labels: np.ndarray, spacing: float | tuple[float, float] = 1.0) -> np.ndarray:
    """Measure the seven attributes in each frame.

    Args:
        labels: Label maps `(T, H, W)`, apex up.
        spacing: Distances in mm between rows and between columns, or one number for both.

    Returns:
        Attributes `(T, 7)` in the order of `CARDIAC_ATTRIBUTES`; NaN for frames with fewer than 60 pixels of LV or MYO.

    Raises:
        ValueError: If `labels` has another number of axes, or the spacing is not positive.
    """
    rows, columns = (spacing, spacing) if isinstance(spacing, int | float) else spacing
    if labels.ndim != 3 or not (rows > 0 and columns > 0):
        raise ValueError(
            f"Got label maps of shape {labels.shape} and spacing {spacing}; expected (T, H, W), and mm above 0."
        )
    if not len(labels):
        return np.empty((0, len(CARDIAC_ATTRIBUTES)))
    lv, myo = labels == LV, labels == MYO
    _, height, width = labels.shape
    y = (np.arange(height) + 0.5) * rows
    x = (np.arange(width) + 0.5 - width / 2) * columns
    pixel_area = rows * columns
    with np.errstate(invalid="ignore", divide="ignore"):
        base_width, base_middle = _base(lv, ~(lv | myo), y, x, (rows, columns))
        centre = _centre_of_mass(lv | myo, y, x)
        values = np.stack(
            [
                lv.sum(axis=(1, 2)) * pixel_area,
                _length(lv, base_middle, y, x),
                base_width,
                _orientation(lv, y, x),
                myo.sum(axis=(1, 2)) * pixel_area,
                centre[:, 1],
                centre[:, 0],
            ],
            axis=1,
        )
    measurable = (lv.sum(axis=(1, 2)) >= MIN_PIXELS) & (myo.sum(axis=(1, 2)) >= MIN_PIXELS)
    values[~measurable] = np.nan
    return values


def area_length_volumes(attributes: np.ndarray) -> np.ndarray:
    """Estimate LV volumes from one view by the area–length method, V = 8 A² / (3π L).

    Args:
        attributes: Attributes `(T, 7)` in the order of `CARDIAC_ATTRIBUTES`.

    Returns:
        Volumes `(T,)` in ml.
    """
    area, length = attributes[:, 0], attributes[:, 1]
    return 8 * area**2 / (3 * np.pi * length) / 1000


def ejection_fraction(volumes: np.ndarray) -> float:
    """Return (largest − smallest) / largest of the volumes `(T,)` of a cardiac cycle; NaN if none is finite."""
    finite = volumes[np.isfinite(volumes)]
    return float(1 - finite.min() / finite.max()) if finite.size else float("nan")


def is_upside_down(labels: np.ndarray) -> bool:
    """Return whether the apex points down in label maps `(T, H, W)`, which is the case where rows run upwards."""
    lv, myo = labels == LV, labels == MYO
    rows, columns = (np.arange(side, dtype=float) for side in labels.shape[1:])
    with np.errstate(invalid="ignore", divide="ignore"):
        _, base = _base(lv, ~(lv | myo), rows, columns, (1.0, 1.0))
        below = base[:, 0] - _centre_of_mass(lv, rows, columns)[:, 0]
    return bool(np.isfinite(below).any() and np.nanmedian(below) < 0)


def _base(
    lv: np.ndarray, outside: np.ndarray, y: np.ndarray, x: np.ndarray, spacing: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Width `(T,)` and middle `(T, 2)`, y and x in mm, of the border between LV and outside."""
    c, o = (ndimage.gaussian_filter(mask.astype(np.float64), (0, BLUR, BLUR)) for mask in (lv, outside))
    gradients = [
        (np.gradient(o, edge, axis=axis), np.gradient(c, edge, axis=axis))
        for axis, edge in ((1, spacing[0]), (2, spacing[1]))
    ]
    integrand = [c * grad_o - o * grad_c for grad_o, grad_c in gradients]
    pixel_area = spacing[0] * spacing[1]
    normal = np.stack([part.sum(axis=(1, 2)) * pixel_area for part in integrand], axis=1)
    weight = np.hypot(*integrand)
    total = weight.sum(axis=(1, 2))
    middle = np.stack([(weight.sum(axis=2) @ y) / total, (weight.sum(axis=1) @ x) / total], axis=1)
    return np.linalg.norm(normal, axis=1) + BASE_BIAS * np.sqrt(pixel_area), middle


def _length(lv: np.ndarray, base: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Distance `(T,)` in mm from the base's middle `(T, 2)` to the apex."""
    dy, dx = y[None, :, None] - base[:, 0, None, None], x[None, None, :] - base[:, 1, None, None]
    distance = np.where(lv, np.hypot(dy, dx), -np.inf).reshape(len(lv), -1)
    row, column = np.unravel_index(distance.argmax(axis=1), lv.shape[1:])
    axis = np.stack([y[row] - base[:, 0], x[column] - base[:, 1]], axis=1)
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    along = dy * axis[:, 0, None, None] + dx * axis[:, 1, None, None]
    heights = -np.sort(-np.where(lv, along, -np.inf).reshape(len(lv), -1), axis=1)
    first, second = (_height_below(heights, area) for area in TIP_AREAS)
    extent = [area ** (2 / 3) for area in TIP_AREAS]
    return first + (first - second) * extent[0] / (extent[1] - extent[0])


def _height_below(heights: np.ndarray, area: float) -> np.ndarray:
    """Height `(T,)` above which `area` pixels lie, from descending heights `(T, P)`; averaged over half as many."""
    count = int(area)
    return heights[:, count - count // 4 : count + count // 4].mean(axis=1)


def _centre_of_mass(mask: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Centre of mass `(T, 2)`, y and x in mm."""
    count = mask.sum(axis=(1, 2))
    return np.stack([(mask.sum(axis=2) @ y) / count, (mask.sum(axis=1) @ x) / count], axis=1)


def _orientation(mask: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Angle `(T,)` of the long principal axis to the vertical in degrees, within ±90."""
    count, centre = mask.sum(axis=(1, 2)), _centre_of_mass(mask, y, x)
    yy = (mask.sum(axis=2) @ y**2) / count - centre[:, 0] ** 2
    xx = (mask.sum(axis=1) @ x**2) / count - centre[:, 1] ** 2
    xy = np.einsum("nhw,h,w->n", mask.astype(np.float64), y, x) / count - centre[:, 0] * centre[:, 1]
    return np.rad2deg(0.5 * np.arctan2(-2 * xy, yy - xx))
