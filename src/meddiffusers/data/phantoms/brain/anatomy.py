"""Partial-volume fractions of all brain structures at each point of a grid, with subject-specific sulci."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

from meddiffusers.data.phantoms.brain.smooth_field import Grid, SmoothField, points_of
from meddiffusers.data.phantoms.brain.structures import FLUID, STRUCTURES
from meddiffusers.data.phantoms.brain.template import COARSE, DEEP, Template
from meddiffusers.data.phantoms.brain.tissue import Tissue
from meddiffusers.data.phantoms.brain.warp import Warp, sample_maps
from meddiffusers.data.regions import MIRRORED

SURFACE = (
    "fluid",
    "cortex",
    "cerebral white matter",
    "cerebellar cortex",
    "cerebellar white matter",
    "brainstem",
)
PARTS = (*SURFACE, *STRUCTURES)
HIND = ("cerebellar cortex", "cerebellar white matter", "brainstem")
VENTRICLES = tuple(PARTS.index(name) for name in FLUID)
TISSUE = tuple(index for index, name in enumerate(PARTS) if name != "fluid" and name not in FLUID)
# Ids of `data.regions` on the right side and in the middle; the left ones are their mirror images.
LABELS = np.array([24, 42, 41, 47, 46, 16, *(structure.label for structure in STRUCTURES.values())], np.int16)
LEFT_LABELS = np.array([MIRRORED[int(label)] for label in LABELS], np.int16)
DisplacementField = Callable[[Grid], np.ndarray | None]  # grid → (3, X, Y, Z) mm, or None for no displacement
FAR = 99.0  # mm, distance from the ventricles that is assigned outside the brain
RIM = 1.5  # mm outside the brain's surface that still have a partial volume of it


@dataclass(frozen=True)
class Anatomy:
    """Partial volumes at the N grid points in and near the brain; `inside` (X, Y, Z) marks these points.

    Attributes:
        inside: (X, Y, Z) mask of the N points.
        fractions: (18, N) in the order of `PARTS`; their sum is 1 within the brain and falls to 0 at its surface.
        choroid: (N,) fraction of choroid plexus, which is a part of the lateral ventricles.
        detail: (N,) T1 intensity of the template minus the mean of its tissues; white matter is 1.
        right: (N,) True in the right hemisphere.
        depth: (X, Y, Z) mm below the brain's surface.
        wall: (N,) mm from the wall of the ventricles, negative inside.
        places: (3, X, Y, Z) template coordinates in mm, before the ventricles are widened.
    """

    inside: np.ndarray
    fractions: np.ndarray
    choroid: np.ndarray
    detail: np.ndarray
    right: np.ndarray
    depth: np.ndarray
    wall: np.ndarray
    places: np.ndarray

    def labels(self) -> np.ndarray:
        """Label map (X, Y, Z) int16 of `data.regions`: the region with the largest fraction at each voxel."""
        winner = self.fractions.argmax(axis=0)
        names = np.where(self.right, LABELS[winner], LEFT_LABELS[winner])
        return self.to_grid(np.where(self.fractions.sum(axis=0) > 0.5, names, 0))

    def volumes(self, voxel_volume: float) -> dict[int, float]:
        """mm³ of each region, partial volumes included."""
        right, whole = self.fractions[:, self.right].sum(axis=1), self.fractions.sum(axis=1)
        volumes: dict[int, float] = {}
        for names, amounts in ((LABELS, right), (LEFT_LABELS, whole - right)):
            for name, amount in zip(names.tolist(), amounts.tolist(), strict=True):
                volumes[name] = volumes.get(name, 0.0) + amount * voxel_volume
        return volumes

    def tissue(self) -> Tissue:
        """Tissue maps (X, Y, Z) that lesions are placed in."""

        def sum_of(*names: str) -> np.ndarray:
            return self.fractions[[PARTS.index(name) for name in names]].sum(axis=0)

        brain, fluid, ventricle = self.fractions.sum(axis=0), self.fractions[0], sum_of(*FLUID)
        white = sum_of("cerebral white matter", "cerebellar white matter")
        cerebrum = np.clip(1 - sum_of(*HIND) / np.maximum(brain, 1e-3), 0, 1)
        return Tissue(
            white=self.to_grid(white),
            grey=self.to_grid(brain - white - fluid - ventricle),
            fluid=self.to_grid(fluid),
            ventricle=self.to_grid(ventricle),
            brain=self.to_grid(brain),
            depth=np.maximum(self.depth, 0),
            ventricle_distance=np.where(self.inside, self.to_grid(self.wall), np.float32(FAR)),
            cerebrum=self.to_grid(cerebrum),
        )

    def to_grid(self, values: np.ndarray) -> np.ndarray:
        """Values (…, N) at the points as (…, X, Y, Z), 0 elsewhere."""
        full = np.zeros((*values.shape[:-1], *self.inside.shape), values.dtype)
        full[..., self.inside] = values
        return full


@dataclass(frozen=True)
class Sulci:
    """Subject-specific cortical folds: smooth random log-odds of fluid, grey and white matter, and atrophy."""

    field: SmoothField
    atrophy: float

    def __call__(self, grid: Grid) -> np.ndarray:
        """(3, X, Y, Z) factors on the fractions of fluid, grey and white matter."""
        fluid, grey, white = self.field(grid)
        odds = np.stack([0.8 * fluid + 1.1 * self.atrophy + 0.55, 0.3 * grey + 0.3, 0.45 * white])
        return np.exp(0.9 * odds, dtype=np.float32)


def anatomy_at(
    grid: Grid,
    warp: Warp,
    sulci: Sulci,
    template: Template,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    displacement: DisplacementField | None = None,
) -> Anatomy:
    """Compute the anatomy on an axis-aligned grid.

    A voxel that is larger than the template's is the mean of several points within it.

    Args:
        grid: mm of the planes along x, y and z.
        warp: from subject to template coordinates.
        sulci: factors on the fractions of fluid, grey and white matter.
        template: the average brain.
        spacing: edge lengths of a voxel in mm.
        displacement: mm by which a lesion displaces the tissue at each point.
    """
    places = warp(grid, _undisplaced(grid, displacement))
    flat = places.reshape(3, -1)
    wall, depth = sample_maps(template.distances[:2], flat, template.origin, COARSE) * np.float32(warp.size)
    inside = (depth > -RIM - max(spacing) / 2).reshape(places.shape[1:])
    inside &= places[2] > template.origin[2]  # the template would be extrapolated below its last plane
    total, samples = np.zeros((len(PARTS) + 2, int(inside.sum())), np.float32), offsets(spacing)
    for offset in samples:
        if any(offset):
            x, y, z = (np.asarray(planes) + shift for planes, shift in zip(grid, offset, strict=True))
            moved = (x, y, z)
            total += _mixture(
                warp(moved, _undisplaced(moved, displacement))[:, inside], sulci(moved)[:, inside], warp, template
            )
        else:
            total += _mixture(places[:, inside], sulci(grid)[:, inside], warp, template)
    total /= len(samples)
    return Anatomy(
        inside=inside,
        fractions=total[:-2],
        choroid=total[-2],
        detail=total[-1],
        right=places[0][inside] > 0,
        depth=depth.reshape(inside.shape),
        wall=wall[inside.ravel()],
        places=places,
    )


def offsets(spacing: tuple[float, float, float]) -> list[tuple[float, ...]]:
    """Sample points of a voxel in mm from its centre; a single one for voxels of up to about 1 mm."""
    if max(spacing) <= 1.3:
        return [(0.0, 0.0, 0.0)]
    if max(spacing) <= 2.5:  # four corners of a cube, no two of them neighbours
        signs = ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
        return [tuple(sign * edge / 4 for sign, edge in zip(corner, spacing, strict=True)) for corner in signs]
    counts = [max(int(np.ceil(edge / 1.5)), 1) for edge in spacing]
    steps = [((np.arange(count) + 0.5) / count - 0.5) * edge for count, edge in zip(counts, spacing, strict=True)]
    return list(product(*(step.tolist() for step in steps)))


def ventricles_at(places: np.ndarray, template: Template) -> np.ndarray:
    """(N,) fraction of ventricular fluid at points (3, N) of the average brain."""
    first = DEEP.index(FLUID[0])  # the ventricles are consecutive in DEEP
    return _deep(places, template, slice(first, first + len(FLUID))).sum(axis=0)


def _undisplaced(grid: Grid, displacement: DisplacementField | None) -> np.ndarray:
    """(3, X, Y, Z) positions in mm of the grid's points before a lesion displaced them."""
    points, moved = points_of(grid), None if displacement is None else displacement(grid)
    return points if moved is None else points - moved


def _mixture(places: np.ndarray, odds: np.ndarray, warp: Warp, template: Template) -> np.ndarray:
    """(20, N): fractions of PARTS, of choroid plexus, and the T1 detail at points (3, N) of the average brain."""
    places = warp.widened(places, template)
    *maps, cerebellum, brainstem, detail = sample_maps(template.tissues, places, template.origin)
    tissues = np.stack(maps)
    brain = np.minimum(tissues.sum(axis=0), 1)
    mixture = odds * tissues * (tissues > 0.01)
    fluid, grey, white = mixture * (brain / np.maximum(mixture.sum(axis=0), 1e-6))
    *deep, choroid = _deep(places, template)
    rest = np.clip(1 - np.sum(deep, axis=0), 0, 1)
    cerebrum, hind = rest * np.clip(1 - cerebellum - brainstem, 0, 1), rest * cerebellum
    surface = (
        fluid * rest,
        grey * cerebrum,
        white * cerebrum,
        grey * hind,
        white * hind,
        (grey + white) * rest * brainstem,
    )
    return np.stack([*surface, *(part * brain for part in deep), choroid, detail])


def _deep(places: np.ndarray, template: Template, rows: slice = slice(None)) -> np.ndarray:
    """Fractions (rows, N) of DEEP, sampled only where deep structures can be."""
    maps, low = template.deep[rows], template.deep_origin
    high = low + maps.shape[1:]
    near = np.abs(places[0]) < high[0]
    for axis in (1, 2):
        near &= (places[axis] > low[axis]) & (places[axis] < high[axis])
    fractions = np.zeros((len(maps), places.shape[1]), np.float32)
    fractions[:, near] = sample_maps(maps, places[:, near], low)
    return fractions
