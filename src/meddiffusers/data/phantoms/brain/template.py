"""The average brain that every phantom is warped from: tissue fractions, deep structures and distance maps.

Built once from the ICBM 152 average (2009a, symmetric; its notice permits use, copying and redistribution), which is
part of the package nilearn, and cached beside the data sets of `datasets`. Only the right half is stored; the left half
is its mirror image.
"""

from __future__ import annotations

import importlib.util
import logging
import shutil
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import datasets
import nibabel
import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

from meddiffusers.data.phantoms.brain.structures import (
    BRAINSTEM,
    CHOROID_PLEXUS,
    FLUID,
    STRUCTURES,
    tentorium,
)
from meddiffusers.utils.atomic import atomic_path

logger = logging.getLogger(__name__)
VERSION = 1  # of the cached maps: raise it whenever a map changes
TISSUES = ("fluid", "grey", "white", "cerebellum", "brainstem")
DEEP = (*STRUCTURES, "choroid plexus")
MARGIN = 4  # voxels beyond the midline, so that maps can be interpolated and blurred across it
COARSE = 2  # mm, grid of the distance maps
SHARPENING = 1.6  # exponent on the tissue fractions: an average brain is smoother than an individual one
DETAIL = 0.25  # largest deviation of a voxel's T1 from the mean of its tissues; white matter is 1
CLEFT = 18  # mm, greatest distance of the skull from the brain where its surface is concave
LEVELS = 10000  # factor with which fractions are stored as int16


@dataclass(frozen=True)
class Template:
    """Maps of the right half of the brain, float32; voxel (i, j, k) is at origin + spacing · (i, j, k) mm.

    Attributes:
        tissues: (6, X, Y, Z) at `origin`, 1 mm: fractions in the order of `TISSUES`, of which the last two are regions
            rather than tissues; then T1 minus the mean of its tissues, with white matter at 1.
        deep: (13, x, y, z) at `deep_origin`, 1 mm: fractions in the order of `DEEP`.
        distances: (6, X/2, Y/2, Z/2) at `origin`, 2 mm: distance in mm from the wall of the ventricles (negative
            inside), depth below the brain's surface (negative outside) and below the inner table of the skull, then the
            gradient of the first along x, y, z.
        origin: (3,) mm.
        deep_origin: (3,) mm.
    """

    tissues: np.ndarray
    deep: np.ndarray
    distances: np.ndarray
    origin: np.ndarray
    deep_origin: np.ndarray


@lru_cache(1)
def template() -> Template:
    """Return the template; it is built on first use, and read from the cache afterwards.

    Raises:
        ImportError: nilearn (extra `phantom`) is not installed.
    """
    folder = Path(datasets.config.HF_DATASETS_CACHE) / f"meddiffusers-brain-template-v{VERSION}"
    try:
        maps = _read(folder) if folder.exists() else None
    except (ValueError, OSError, EOFError) as error:
        logger.warning("The cache %s is damaged (%s); the template is built again.", folder, error)
        shutil.rmtree(folder)
        maps = None
    if maps is None:
        _write(_build(), folder)
        maps = _read(folder)
    for name in ("tissues", "deep"):
        maps[name] = maps[name].astype(np.float32) / np.float32(LEVELS)
    return Template(**maps)


def _read(folder: Path) -> dict[str, np.ndarray]:
    return {item.name: np.load(folder / f"{item.name}.npy") for item in fields(Template)}


def _write(maps: Template, folder: Path) -> None:
    with atomic_path(folder) as staged:
        staged.mkdir()
        for item in fields(Template):
            values = getattr(maps, item.name)
            if item.name in ("tissues", "deep"):
                values = np.round(LEVELS * values).astype(np.int16)
            np.save(staged / f"{item.name}.npy", values)


def _build() -> Template:
    t1, grey, white, origin = _icbm()
    brain = ndimage.binary_fill_holes(t1 > 0.09)
    points = np.stack(np.meshgrid(*map(np.arange, t1.shape), indexing="ij")).astype(np.float32)
    points += origin[:, None, None, None].astype(np.float32)
    labels = _structures(t1, points)
    parts = _parts(t1, brain, points)
    upper_brainstem = (parts == 3) & (points[2] > -8)
    labels[upper_brainstem & (labels == 0) & (t1 > 0.7)] = STRUCTURES["ventral diencephalon"].label
    parts[upper_brainstem] = 1
    deep_box = _box(labels > 0)
    deep = np.stack([_soft(labels[deep_box] == structure.label) for structure in STRUCTURES.values()])
    choroid = np.clip(CHOROID_PLEXUS.depth(points[(slice(None), *deep_box)]) + 0.5, 0, 1)
    choroid *= deep[[DEEP.index(name) for name in FLUID]].sum(axis=0)
    ventricles = np.isin(labels, [STRUCTURES[name].label for name in FLUID])
    tissues = _tissues(t1, grey, white, brain, ventricles)
    masks = np.stack([*tissues, _soft(parts == 2), _soft((parts == 3) & brain)])
    detail = _detail(t1, tissues, masks[3:], deep, deep_box)
    return Template(
        np.stack([*masks, detail]),
        np.stack([*deep, choroid]),
        _distances(ventricles, brain),
        origin,
        origin + np.array([side.start for side in deep_box]),
    )


def _icbm() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """T1 with white matter at 1, grey and white matter in [0, 1], each (X, Y, Z), and the position of voxel 0 in mm."""
    found = importlib.util.find_spec("nilearn")
    if found is None or found.origin is None:
        raise ImportError(
            'nilearn is not installed; expected it from the extra "phantom": pip install "meddiffusers[phantom]"'
        )
    folder = Path(found.origin).parent / "datasets" / "data"
    images = [
        nibabel.as_closest_canonical(nibabel.load(folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz"))
        for kind in ("t1", "gm", "wm")
    ]
    origin = images[0].affine[:3, 3]
    first = int(-origin[0]) - MARGIN
    t1, grey, white = (np.asarray(image.dataobj)[first:].astype(np.float32) / 255 for image in images)
    return t1 / np.median(t1[white > 0.97]), grey, white, origin + np.array([first, 0, 0])


def _box(mask: np.ndarray, margin: int = 5) -> tuple[slice, slice, slice]:
    sides = []
    for axis, size in enumerate(mask.shape):
        hit = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        sides.append(slice(max(int(hit[0]) - margin, 0), min(int(hit[-1]) + margin + 1, size)))
    return sides[0], sides[1], sides[2]


def _soft(mask: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(mask.astype(np.float32), 0.6)


def _structures(t1: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Label of the deep structure at each voxel, 0 elsewhere; each structure is one connected component."""
    best, labels = np.zeros_like(t1), np.zeros(t1.shape, np.uint8)
    box = _box((np.abs(points[0]) < 46) & (points[1] > -66) & (points[1] < 38) & (np.abs(points[2] + 8) < 42), 0)
    near, level, labelled = points[(slice(None), *box)], t1[box], labels[box]
    mirrored = np.stack([np.abs(near[0]), *near[1:]])
    for structure in STRUCTURES.values():
        depth = structure.depth(mirrored)
        claimed = (level >= structure.levels[0]) & (level < structure.levels[1]) & (depth > best[box])
        best[box][claimed] = depth[claimed]
        labelled[claimed] = structure.label
    for structure in STRUCTURES.values():
        pieces, count = ndimage.label(labelled == structure.label)
        if count > 1:
            labelled[(pieces > 0) & (pieces != np.bincount(pieces.ravel())[1:].argmax() + 1)] = 0
    return labels


def _parts(t1: np.ndarray, brain: np.ndarray, points: np.ndarray) -> np.ndarray:
    """1 cerebrum, 2 cerebellum, 3 brainstem, separated by a watershed along fluid or the darkest tissue."""
    parts = np.ones(t1.shape, np.uint8)
    below = _box((points[1] < -10) & (points[2] < 14), 0)
    points, level, inside = points[(slice(None), *below)], t1[below], brain[below]
    mirrored = np.stack([np.abs(points[0]), *points[1:]])
    roof, stem = tentorium(points), BRAINSTEM.depth(mirrored)
    seeds = np.zeros(level.shape, np.int32)
    seeds[(points[2] > roof + 7) & inside] = 1
    seeds[(points[2] < roof - 9) & (points[1] < -42) & (stem < -4) & inside] = 2
    seeds[(stem > 4) & (points[2] < -12) & (level > 0.75) & inside] = 3
    parts[below] = watershed(ndimage.gaussian_filter(1 - level, 0.6), seeds, mask=inside)
    return parts


def _tissues(
    t1: np.ndarray, grey: np.ndarray, white: np.ndarray, brain: np.ndarray, ventricles: np.ndarray
) -> np.ndarray:
    """(3, X, Y, Z) fractions of fluid, grey and white matter; their sum falls from 1 to 0 at the brain's surface."""
    surface = ndimage.gaussian_filter(brain.astype(np.float32), 0.7)
    # Partial volumes of fluid and white matter on the walls of the ventricles are not grey matter.
    wall = ndimage.binary_dilation(ventricles, iterations=3) & (t1 < 1)
    white = np.where(wall, white + grey, white)
    grey = np.where(wall, 0, grey)
    fractions = np.stack([np.clip(1 - grey - white, 0, 1), grey, white]) ** SHARPENING
    return surface * fractions / np.maximum(fractions.sum(axis=0), 1e-3)


def _detail(
    t1: np.ndarray, tissues: np.ndarray, parts: np.ndarray, deep: np.ndarray, deep_box: tuple[slice, slice, slice]
) -> np.ndarray:
    """T1 minus the mean of each tissue and structure."""
    everywhere = np.zeros((len(deep), *t1.shape), np.float32)
    everywhere[(slice(None), *deep_box)] = deep
    rest = np.clip(1 - everywhere.sum(axis=0), 0, 1)
    expected = np.zeros_like(t1)
    for fraction in (
        *(tissues * rest * (1 - parts.sum(axis=0))),
        *(tissues * rest * parts[0]),
        rest * parts[1],
        *everywhere,
    ):
        sure = fraction > 0.8
        expected += fraction * (np.median(t1[sure]) if sure.sum() > 50 else 0.6)
    return np.where(tissues.sum(axis=0) > 0.8, np.clip(t1 - expected, -DETAIL, DETAIL), 0)


def _distances(ventricles: np.ndarray, brain: np.ndarray) -> np.ndarray:
    def signed(mask: np.ndarray) -> np.ndarray:
        """Distance in mm outside the mask, negative inside, smoothed so that its gradient is usable."""
        outside = np.asarray(ndimage.distance_transform_edt(~mask), np.float32)
        inside = np.asarray(ndimage.distance_transform_edt(mask), np.float32)
        return ndimage.gaussian_filter(outside - inside, 1.5)[::COARSE, ::COARSE, ::COARSE]

    wall, skull = signed(ventricles), ndimage.distance_transform_edt(~brain) < CLEFT
    skull = ndimage.distance_transform_edt(skull) > CLEFT  # a closing: it bridges gaps narrower than twice CLEFT
    return np.stack([wall, -signed(brain), -signed(skull | brain), *np.gradient(wall, COARSE)]).astype(np.float32)
