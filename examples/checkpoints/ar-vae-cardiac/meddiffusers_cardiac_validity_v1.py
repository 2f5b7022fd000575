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
| lv_too_wide | the LV's width exceeds 20 times the median thickness of the myocardium |
| myo_too_thin | the myocardium's thickness falls below 0.1 of its median |

The last three are beyond what hearts are, not beyond what is common: dilated ventricles reach 75 mm with walls of 4 mm
(normal are 42 to 58 mm and 6 to 10 mm, Lang et al., JASE 2015), a scar keeps a fifth of the wall, and the thickness
tapers at the base. The paper allows a width of 4.15, which a dilated ventricle exceeds. Holes and fragments of up to
three pixels do not count, since outlines leave them on a pixel grid.
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
MAX_CONTACT, MAX_WIDTH, MIN_THICKNESS = 1.25, 20.0, 0.1
MIN_PIXELS = 4  # of a hole or fragment that counts
MAX_FRAGMENT = 0.2  # of the largest component; a larger fragment is not removed
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
    """Remove small components of LV and of myocardium, and fill holes in them and between them.

    Removed components become background, holes the label that surrounds them. Other labels stay. So do components of
    more than a fifth of the largest one: they may be parts of the heart, as where the sector cuts the wall off.

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
    lv, myo = _large_components(frame == LV), _large_components(frame == MYO)
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
    holes = [_has_hole(mask, ~mask) for mask in (lv, myo, lv_myo)]
    # A closed ring of myocardium contains the LV, which is not a hole in it.
    holes[1] = _has_hole(myo, ~lv_myo) or _encloses_fragment(lv, myo)
    fragmented = [len(_component_sizes(mask)) != 1 for mask in (lv, myo)]
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


def _has_hole(mask: np.ndarray, other: np.ndarray) -> bool:
    """Whether the mask encloses a component of `other` that counts."""
    return bool(_component_sizes(ndimage.binary_fill_holes(mask) & other).size)


def _component_sizes(mask: np.ndarray) -> np.ndarray:
    """Numbers of pixels of the components that count."""
    sizes = np.bincount(ndimage.label(mask, _EIGHT_CONNECTED)[0].ravel())[1:]
    return sizes[sizes >= MIN_PIXELS]


def _largest_component(mask: np.ndarray) -> np.ndarray:
    components, count = ndimage.label(mask, _EIGHT_CONNECTED)
    return mask if count < 2 else components == np.bincount(components.ravel())[1:].argmax() + 1


def _large_components(mask: np.ndarray) -> np.ndarray:
    components, count = ndimage.label(mask, _EIGHT_CONNECTED)
    if count < 2:
        return mask
    sizes = np.bincount(components.ravel())[1:]
    return np.isin(components, 1 + np.flatnonzero(sizes > MAX_FRAGMENT * sizes.max()))


def _encloses_fragment(lv: np.ndarray, myo: np.ndarray) -> bool:
    """Whether the myocardium surrounds a component of the LV other than the largest one."""
    return _has_hole(myo, lv & ~_largest_component(lv))


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

    The normals along a closed border sum to zero, those along a straight border to its length. Only places where both
    touch count: thin walls on coarse grids do not.
    """
    touching = ndimage.binary_dilation(ndimage.binary_dilation(lv) & outside, iterations=2)
    c, o = (ndimage.gaussian_filter(mask.astype(np.float32), BLUR) for mask in (lv, outside))
    down, across = (touching * (c * np.gradient(o, axis=axis) - o * np.gradient(c, axis=axis)) for axis in (0, 1))
    resultant = float(np.hypot(down.sum(), across.sum()))
    return float(np.hypot(down, across).sum()) / max(resultant, 1e-6)
