"""Anatomical validity of label maps of the left ventricle (criteria of Painchaud et al., IEEE TMI 2022).

Functions that published pipelines import from beside them. The file is published with each of these pipelines.

| criterion | violated if |
|---|---|
| lv_hole | the LV encloses another label |
| myo_hole | the myocardium encloses another label, apart from the LV |
| lv_myo_hole | LV and myocardium together enclose another label, such as a gap between them |
| lv_fragmented | the LV is empty or has several connected components |
| myo_fragmented | the myocardium is empty or has several connected components |
| lv_background_contact | the LV touches the background elsewhere than along one straight base |
| lv_too_wide | the LV's width exceeds 5.2 times the median thickness of the myocardium |
| myo_too_thin | the myocardium's thickness falls below 0.2 of its median |

The thresholds of the last three lie a tenth beyond the extremes of 540 clean phantoms, which are 1.01 (contact over the
length of a straight base), 4.7 and 0.23. The paper allows a width of 4.15.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .meddiffusers_cardiac_labels_v1 import LV, MYO

PUBLISHED_AS = "meddiffusers_cardiac_validity_v1"  # the file has the same name in a repository
CRITERIA = (
    "lv_hole",
    "myo_hole",
    "lv_myo_hole",
    "lv_fragmented",
    "myo_fragmented",
    "lv_background_contact",
    "lv_too_wide",
    "myo_too_thin",
)
MAX_CONTACT, MAX_WIDTH, MIN_THICKNESS = 1.1, 5.2, 0.2
BLUR, MARGIN = 1.0, 5  # pixels
_EIGHT_CONNECTED = np.ones((3, 3), bool)  # for components; holes are four-connected


def anatomical_violations(labels: np.ndarray) -> np.ndarray:
    """Check label maps against the anatomical criteria.

    Args:
        labels: Label maps `(T, H, W)`.

    Returns:
        Violated criteria `(T, 8)`, bool, in the order of `CRITERIA`.
    """
    return np.array([_violations(frame[_bounding_box(frame)]) for frame in labels], bool).reshape(
        len(labels), len(CRITERIA)
    )


def clean_label_map(frame: np.ndarray) -> np.ndarray:
    """Keep the largest component of LV and of myocardium, and fill holes in them and between them.

    Removed components become background, holes the label that surrounds them. Other labels stay.

    Args:
        frame: Label map `(H, W)`.

    Returns:
        A cleaned copy.
    """
    result, box = frame.copy(), _bounding_box(frame)
    result[box] = _clean(frame[box])
    return result


def _bounding_box(frame: np.ndarray) -> tuple[slice, slice]:
    """Box of LV and myocardium with a margin of background, which connects what surrounds them."""
    lv_myo = (frame == LV) | (frame == MYO)
    if not lv_myo.any():
        return slice(0, 1), slice(0, 1)
    sides = [np.flatnonzero(lv_myo.any(axis=axis)) for axis in (1, 0)]
    return tuple(slice(max(0, side[0] - MARGIN), side[-1] + MARGIN + 1) for side in sides)  # type: ignore[return-value]


def _clean(frame: np.ndarray) -> np.ndarray:
    lv, myo = _largest_component(frame == LV), _largest_component(frame == MYO)
    fragments = ((frame == LV) & ~lv) | ((frame == MYO) & ~myo)
    result = np.where(fragments, 0, frame)
    lv = ndimage.binary_fill_holes(lv)
    result[lv] = LV
    myo = (result == MYO) | (ndimage.binary_fill_holes(result == MYO) & ~lv)
    result[myo] = MYO
    gap = ndimage.binary_fill_holes(lv | myo) & ~(lv | myo)
    result[gap] = MYO
    return result


def _violations(frame: np.ndarray) -> list[bool]:
    lv, myo = frame == LV, frame == MYO
    lv_myo = lv | myo
    holes = [bool((ndimage.binary_fill_holes(mask) & ~mask).any()) for mask in (lv, myo, lv_myo)]
    # A closed ring of myocardium contains the LV, which is not a hole in it.
    holes[1] = bool((ndimage.binary_fill_holes(myo) & ~lv_myo).any()) or _encloses_fragment(lv, myo)
    fragmented = [ndimage.label(mask, _EIGHT_CONNECTED)[1] != 1 for mask in (lv, myo)]
    if not lv.any() or not myo.any():
        return [*holes, *fragmented, True, True, True]
    thickness = _thickness(lv, myo)
    median = float(np.median(thickness))
    return [
        *holes,
        *fragmented,
        _background_contact(lv, ~lv_myo) > MAX_CONTACT,
        _width(lv) > MAX_WIDTH * median,
        float(np.percentile(thickness, 2)) < MIN_THICKNESS * median,
    ]


def _largest_component(mask: np.ndarray) -> np.ndarray:
    components, count = ndimage.label(mask, _EIGHT_CONNECTED)
    return mask if count < 2 else components == np.bincount(components.ravel())[1:].argmax() + 1


def _encloses_fragment(lv: np.ndarray, myo: np.ndarray) -> bool:
    """Whether the myocardium surrounds a component of the LV other than the largest one."""
    return bool((ndimage.binary_fill_holes(myo) & lv & ~_largest_component(lv)).any())


def _thickness(lv: np.ndarray, myo: np.ndarray) -> np.ndarray:
    """Distances in pixels from the epicardium to the LV; from the whole myocardium if it has no outer border."""
    outside = ~(lv | myo)
    epicardium = myo & ndimage.binary_dilation(outside)
    distance = ndimage.distance_transform_edt(~lv)
    return distance[epicardium if epicardium.any() else myo]


def _width(lv: np.ndarray) -> float:
    """Diameter in pixels of the largest circle within the LV."""
    return 2 * float(ndimage.distance_transform_edt(lv).max())


def _background_contact(lv: np.ndarray, outside: np.ndarray) -> float:
    """Length of the border between LV and outside over the length of its resultant; 1 for a straight base.

    The normals along a closed border sum to zero, those along a straight border to its length.
    """
    c, o = (ndimage.gaussian_filter(mask.astype(np.float32), BLUR) for mask in (lv, outside))
    down, across = (c * np.gradient(o, axis=axis) - o * np.gradient(c, axis=axis) for axis in (0, 1))
    resultant = float(np.hypot(down.sum(), across.sum()))
    return float(np.hypot(down, across).sum()) / max(resultant, 1e-6)
