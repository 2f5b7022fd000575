"""Resection cavity: a fluid-filled defect open to the brain's surface, with a thin scar, hyperintense on FLAIR."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from meddiffusers.data.phantoms.brain.boxes import crop_grid, crop_tissue, find_box, paste
from meddiffusers.data.phantoms.brain.lesions.appearance import LesionAppearance, random_appearance
from meddiffusers.data.phantoms.brain.lesions.mass_effect import mass_effect
from meddiffusers.data.phantoms.brain.lesions.places import random_place
from meddiffusers.data.phantoms.brain.lesions.raters import RATERS, Raters
from meddiffusers.data.phantoms.brain.local_field import LocalField
from meddiffusers.data.phantoms.brain.smooth_field import Grid, SmoothField, points_of
from meddiffusers.data.phantoms.brain.tissue import Surroundings, Tissue


@dataclass(frozen=True)
class CavityShape:
    """Geometry of a cavity: a tube from `floor` to `mouth`, widest at the floor. Lengths are in mm.

    Attributes:
        floor: (3,) deepest point.
        mouth: (3,) point outside the brain.
        radius: of the tube at the floor.
        scar: mean thickness of the scar.
        lobes: relative irregularity of the radius and of the scar.
        margin: width of the transition at the border.
    """

    floor: np.ndarray
    mouth: np.ndarray
    radius: float
    scar: float
    lobes: float
    margin: float


class Cavity:
    """A resection cavity with the interface of `lesions.Lesion`; its scar is labelled oedema, as in BraTS."""

    def __init__(
        self,
        shape: CavityShape,
        detail: SmoothField,
        displacement: LocalField | None,
        raters: Raters,
        appearance: LesionAppearance,
    ) -> None:
        self.shape, self.appearance = shape, appearance
        self._detail, self._displacement, self._raters = detail, displacement, raters
        reach = 1.8 * shape.radius + 2.5 * shape.scar + 2 * shape.margin
        self._low = np.minimum(shape.floor, shape.mouth) - reach
        self._high = np.maximum(shape.floor, shape.mouth) + reach

    def displacement(self, grid: Grid) -> np.ndarray | None:
        return None if self._displacement is None else self._displacement(grid)

    def parts(self, grid: Grid, tissue: Tissue) -> dict[str, np.ndarray]:
        box = find_box(grid, self._low, self._high)
        fluid, scar = self._fractions(crop_grid(grid, box), crop_tissue(tissue, box), np.float32(0))
        shape = tissue.white.shape
        return {"cavity": paste(fluid, box, shape), "oedema": paste(scar, box, shape)}

    def raters(self, grid: Grid, tissue: Tissue) -> np.ndarray:
        box = find_box(grid, self._low, self._high)
        part, near = crop_grid(grid, box), crop_tissue(tissue, box)
        outlines = np.zeros((RATERS, *tissue.white.shape), dtype=bool)
        for rater, offset in enumerate(self._raters.offsets(part)):
            fluid, scar = self._fractions(part, near, offset)
            outlines[(rater, *box)] = fluid + scar > 0.5
        return outlines

    def _fractions(self, grid: Grid, tissue: Tissue, offset: np.ndarray | np.float32) -> tuple[np.ndarray, np.ndarray]:
        """Fractions of fluid and scar, with the level set shifted by an offset in margin widths."""
        shape, detail = self.shape, self._detail(grid)
        within_fluid = shape.radius * (1 + shape.lobes * detail[0]) - self._distance(grid)
        within_scar = within_fluid + shape.scar * (1 + 0.6 * detail[1]).clip(0, 2)
        inside = tissue.brain * (1 - tissue.ventricle)
        fluid = expit(4 * (within_fluid / min(1.0, shape.margin) + offset)) * inside
        scar = expit(4 * (within_scar / shape.margin + offset)) * np.clip(tissue.white + 0.5 * tissue.grey, 0, 1)
        return fluid, scar * inside * (1 - fluid)

    def _distance(self, grid: Grid) -> np.ndarray:
        """Distance to the axis in mm, weighted up to 1.3 towards the mouth."""
        axis = self.shape.mouth - self.shape.floor
        offset = points_of(grid) - self.shape.floor.reshape(3, 1, 1, 1).astype(np.float32)
        along = np.clip(np.tensordot((axis / (axis @ axis)).astype(np.float32), offset, 1), 0, 1)
        across = offset - axis.reshape(3, 1, 1, 1).astype(np.float32) * along
        return np.sqrt((across**2).sum(axis=0)) * (1 + 0.3 * along)


def random_cavity(rng: np.random.Generator, difficulty: float, surroundings: Surroundings) -> Cavity:
    """Sample a cavity; higher difficulty makes it smaller, fainter and more irregular."""
    radius = float(np.clip(np.exp(rng.normal(np.log(13 - 5 * difficulty), 0.3)), 4, 24))
    floor = random_place(rng, surroundings, (0.5 * radius + 3, radius + 8))
    shape = CavityShape(
        floor=floor,
        mouth=_mouth(floor, surroundings),
        radius=radius,
        scar=float(rng.uniform(1.5, 4.0) * (1 - 0.5 * difficulty * rng.random())),
        lobes=float(rng.uniform(0.12, 0.22) + 0.1 * difficulty * rng.random()),
        margin=float(0.8 + difficulty * rng.uniform(0.25, 0.6) * radius),
    )
    displacement = None
    if rng.random() < 0.6:
        displacement = mass_effect(surroundings, floor, 2.2 * radius + 8, -rng.uniform(0.1, 0.35))
    detail = SmoothField(rng, max(0.6 * radius, 4.5), 2)
    return Cavity(shape, detail, displacement, Raters(rng, 0.6 * radius), random_appearance(rng, 0.25 * difficulty))


def _mouth(floor: np.ndarray, surroundings: Surroundings) -> np.ndarray:
    """Point just outside the brain, along the steepest way from the floor to the surface."""
    step = 4.0
    around = surroundings(floor + step * np.concatenate([np.eye(3), -np.eye(3)])).depth
    outward = around[3:] - around[:3]
    outward = outward / max(float(np.linalg.norm(outward)), 1e-6)
    depth = float(surroundings(floor[None]).depth[0])
    return floor + (depth + 4) * outward
