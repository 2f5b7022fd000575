"""What the brain consists of at every point: fractions of its parts, with the individual's own sulci."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

from meddiffusers.data.phantoms.brain.smooth_field import Grid, SmoothField, points_of
from meddiffusers.data.phantoms.brain.structures import FLUID, STRUCTURES
from meddiffusers.data.phantoms.brain.template import COARSE, DEEP, Template
from meddiffusers.data.phantoms.brain.tissue import Tissue
from meddiffusers.data.phantoms.brain.warp import Warp, sampled
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
Push = Callable[[Grid], np.ndarray | None]  # grid → (3, X, Y, Z) mm, None where nothing moves
FAR = 99.0  # mm from the ventricles, where nobody looks
RIM = 1.5  # mm outside the brain's surface that still hold a trace of it


@dataclass(frozen=True)
class Anatomy:
    """The N points of a grid in and near the brain, `inside` (X, Y, Z) says which.

    fractions: (18, N) of PARTS; their sum is 1 within the brain and falls to 0 at its surface.
    choroid: (N,) fraction of choroid plexus, a part of the lateral ventricles.
    detail: (N,) T1 of the average brain less the mean of its tissues, white matter being 1.
    right: (N,) whether a point lies in the right half.
    depth, wall: (X, Y, Z) and (N,) mm below the surface, and from the ventricles' wall (negative inside).
    places: (3, X, Y, Z) mm of the average brain, before the ventricles were widened.
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
        return self.spread(np.where(self.fractions.sum(axis=0) > 0.5, names, 0))

    def volumes(self, voxel_volume: float) -> dict[int, float]:
        """mm³ of each region, partial volumes included."""
        right, whole = self.fractions[:, self.right].sum(axis=1), self.fractions.sum(axis=1)
        volumes: dict[int, float] = {}
        for names, amounts in ((LABELS, right), (LEFT_LABELS, whole - right)):
            for name, amount in zip(names.tolist(), amounts.tolist(), strict=True):
                volumes[name] = volumes.get(name, 0.0) + amount * voxel_volume
        return volumes

    def tissue(self) -> Tissue:
        """What a lesion sees on the grid (X, Y, Z)."""

        def sum_of(*names: str) -> np.ndarray:
            return self.fractions[[PARTS.index(name) for name in names]].sum(axis=0)

        brain, fluid, ventricle = self.fractions.sum(axis=0), self.fractions[0], sum_of(*FLUID)
        white = sum_of("cerebral white matter", "cerebellar white matter")
        cerebrum = np.clip(1 - sum_of(*HIND) / np.maximum(brain, 1e-3), 0, 1)
        return Tissue(
            white=self.spread(white),
            grey=self.spread(brain - white - fluid - ventricle),
            fluid=self.spread(fluid),
            ventricle=self.spread(ventricle),
            brain=self.spread(brain),
            depth=np.maximum(self.depth, 0),
            ventricle_distance=np.where(self.inside, self.spread(self.wall), np.float32(FAR)),
            cerebrum=self.spread(cerebrum),
        )

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Values (…, N) at the points as (…, X, Y, Z), 0 elsewhere."""
        full = np.zeros((*values.shape[:-1], *self.inside.shape), values.dtype)
        full[..., self.inside] = values
        return full


@dataclass(frozen=True)
class Sulci:
    """One person's folds: smooth random log-odds of fluid, grey and white matter, and how wide the sulci are."""

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
    push: Push | None = None,
) -> Anatomy:
    """The anatomy on an axis-aligned grid of voxels of `spacing` mm; `push` says how far a lesion moves each point.

    A voxel larger than the template's is the mean of several points within it.
    """
    places = warp(grid, _healthy(grid, push))
    flat = places.reshape(3, -1)
    wall, depth = sampled(template.distances[:2], flat, template.origin, COARSE) * np.float32(warp.size)
    inside = (depth > -RIM - max(spacing) / 2).reshape(places.shape[1:])
    inside &= places[2] > template.origin[2]  # below its last plane the template would go on for ever
    total, samples = np.zeros((len(PARTS) + 2, int(inside.sum())), np.float32), offsets(spacing)
    for offset in samples:
        if any(offset):
            x, y, z = (np.asarray(planes) + shift for planes, shift in zip(grid, offset, strict=True))
            moved = (x, y, z)
            total += _mixture(warp(moved, _healthy(moved, push))[:, inside], sulci(moved)[:, inside], warp, template)
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
    """Points within a voxel whose mean stands for it, mm from its centre: one where it is no larger than about 1 mm."""
    if max(spacing) <= 1.3:
        return [(0.0, 0.0, 0.0)]
    if max(spacing) <= 2.5:  # four corners of a cube, no two of them neighbours
        signs = ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
        return [tuple(sign * edge / 4 for sign, edge in zip(corner, spacing, strict=True)) for corner in signs]
    counts = [max(int(np.ceil(edge / 1.5)), 1) for edge in spacing]
    steps = [((np.arange(count) + 0.5) / count - 0.5) * edge for count, edge in zip(counts, spacing, strict=True)]
    return list(product(*(step.tolist() for step in steps)))


def ventricles_at(places: np.ndarray, template: Template) -> np.ndarray:
    """(N,) fraction of the fluid of the ventricles at points (3, N) of the average brain."""
    first = DEEP.index(FLUID[0])  # the ventricles stand side by side
    return _deep(places, template, slice(first, first + len(FLUID))).sum(axis=0)


def _healthy(grid: Grid, push: Push | None) -> np.ndarray:
    """(3, X, Y, Z) where the points of the grid lay before anything pushed them aside."""
    points, moved = points_of(grid), None if push is None else push(grid)
    return points if moved is None else points - moved


def _mixture(places: np.ndarray, odds: np.ndarray, warp: Warp, template: Template) -> np.ndarray:
    """(20, N): fractions of PARTS, of choroid plexus, and the T1 detail at points (3, N) of the average brain."""
    places = warp.widened(places, template)
    *maps, cerebellum, brainstem, detail = sampled(template.tissues, places, template.origin)
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
    """Fractions (rows, N) of DEEP, looked up only where the deep structures can be."""
    maps, low = template.deep[rows], template.deep_origin
    high = low + maps.shape[1:]
    near = np.abs(places[0]) < high[0]
    for axis in (1, 2):
        near &= (places[axis] > low[axis]) & (places[axis] < high[axis])
    fractions = np.zeros((len(maps), places.shape[1]), np.float32)
    fractions[:, near] = sampled(maps, places[:, near], low)
    return fractions
