"""Brain tumours: one or several foci of necrosis, enhancing rim and oedema, with mass effect and ambiguous borders."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from meddiffusers.data.phantoms.brain.boxes import Box, crop_grid, crop_tissue, find_box, paste, shape_of
from meddiffusers.data.phantoms.brain.lesions.appearance import LesionAppearance, random_appearance
from meddiffusers.data.phantoms.brain.lesions.mass_effect import mass_effect
from meddiffusers.data.phantoms.brain.lesions.places import random_place
from meddiffusers.data.phantoms.brain.lesions.raters import RATERS, Raters, uncertain_raters
from meddiffusers.data.phantoms.brain.lesions.tumour_focus import FAR, Focus, FocusShape, grow
from meddiffusers.data.phantoms.brain.local_field import LocalField
from meddiffusers.data.phantoms.brain.smooth_field import Grid
from meddiffusers.data.phantoms.brain.tissue import Surroundings, Tissue

_LARGEST = 26.0  # mm, radius of a core
_SMALLEST = 1.5


class Tumour:
    """A tumour with the interface of `lesions.Lesion`."""

    def __init__(
        self, foci: list[Focus], displacement: LocalField | None, raters: Raters, appearance: LesionAppearance
    ) -> None:
        self.foci, self.appearance = foci, appearance
        self._displacement, self._raters = displacement, raters
        self._low = np.min([focus.levels.low for focus in foci], axis=0)
        self._high = np.max([focus.levels.high for focus in foci], axis=0)

    def displacement(self, grid: Grid) -> np.ndarray | None:
        return None if self._displacement is None else self._displacement(grid)

    def parts(self, grid: Grid, tissue: Tissue) -> dict[str, np.ndarray]:
        box = find_box(grid, self._low, self._high)
        core, necrosis, oedema = _merged(_levels(self.foci, crop_grid(grid, box)), shape_of(crop_grid(grid, box)))
        core, oedema = _fractions(core, oedema, crop_tissue(tissue, box))
        dead = core * expit(4 * necrosis)
        found = {"necrosis": dead, "enhancing": core - dead, "oedema": oedema}
        return {name: paste(part, box, tissue.white.shape) for name, part in found.items()}

    def raters(self, grid: Grid, tissue: Tissue) -> np.ndarray:
        box = find_box(grid, self._low, self._high)
        part, near = crop_grid(grid, box), crop_tissue(tissue, box)
        levels, offsets = _levels(self.foci, part), self._raters.offsets(part)
        outlines = np.zeros((RATERS, *tissue.white.shape), dtype=bool)
        for rater in range(RATERS):
            seen = [level for focus, level in zip(self.foci, levels, strict=True) if rater not in focus.left_out_by]
            core, _, oedema = _merged(seen, shape_of(part))
            core, oedema = _fractions(core + offsets[rater], oedema + offsets[rater], near)
            outlines[(rater, *box)] = core + oedema > 0.5
        return outlines


def random_tumour(rng: np.random.Generator, difficulty: float, surroundings: Surroundings) -> Tumour:
    """Sample a tumour, from a single obvious focus (difficulty 0) to faint, diffuse, scattered foci (1)."""
    enhances = rng.random() > 0.5 * difficulty
    shapes = _random_foci(rng, difficulty, enhances, surroundings)
    main = shapes[0]
    displacement = None
    if main.radius > 5:
        strength = rng.uniform(0.15, 0.42) * (1 - 0.5 * difficulty * rng.random())
        displacement = mass_effect(surroundings, main.centre, 2.6 * main.radius + 8, strength)
    foci = []
    for index, shape in enumerate(shapes):
        ambiguity = 0.6 * difficulty * np.exp(-shape.radius / 5) if index else 0.0
        foci.append(grow(rng, shape, surroundings, displacement, uncertain_raters(rng, ambiguity)))
    raters = Raters(rng, 0.5 * main.radius + 0.2 * main.spread)
    return Tumour(foci, displacement, raters, random_appearance(rng, difficulty, solid=0.0 if enhances else 1.0))


def _random_foci(
    rng: np.random.Generator, difficulty: float, enhances: bool, surroundings: Surroundings
) -> list[FocusShape]:
    radius = float(np.exp(rng.normal(np.log(17 - 8 * difficulty), 0.25 + 0.4 * difficulty)))
    radius = float(np.clip(radius, 8 - (8 - _SMALLEST) * difficulty, _LARGEST))
    centre = random_place(rng, surroundings, (0.5 * radius + 5, 60))
    foci = [_random_focus(rng, difficulty, enhances, centre, radius)]
    for _ in range(rng.poisson(2.2 * max(difficulty - 0.3, 0))):
        size = float(np.clip(np.exp(rng.normal(np.log(3.5), 0.5)), _SMALLEST, 0.8 * radius + _SMALLEST))
        satellite = rng.random() < 0.65
        distance = radius + foci[0].spread + size + rng.uniform(2, 12)
        where = random_place(rng, surroundings, (size + 2, 60), centre if satellite else None, distance)
        foci.append(_random_focus(rng, difficulty, enhances, where, size))
    return foci


def _random_focus(
    rng: np.random.Generator, difficulty: float, enhances: bool, centre: np.ndarray, radius: float
) -> FocusShape:
    spread = min(radius * rng.uniform(0.4, 1.2) + rng.uniform(3, 8), 1.6 * radius + 3, 28)
    if not enhances or rng.random() < 0.35 * difficulty:
        spread *= rng.choice([0.0, 0.5])
    whole = radius + 0.6 * spread
    margin = float(max(whole * (0.08 + difficulty * rng.uniform(0.18, 0.58)), 0.8))
    sharp = float(min(rng.uniform(0.9, 1.4) * (1 + difficulty), 0.6 * radius))
    return FocusShape(
        centre=centre,
        radius=radius,
        rim=(rng.uniform(1.5, 3.5) + 0.15 * radius * rng.random()) * (1 + 2 * difficulty * rng.random())
        if enhances
        else 0.0,
        spread=float(spread),
        core_margin=sharp if enhances and spread else margin,
        margin=margin,
        lobes=float(rng.uniform(0.05, 0.15) + difficulty * rng.uniform(0, 0.25)),
        infiltration=float(difficulty * rng.uniform(0, 0.5) if enhances else rng.uniform(0.3, 1.0)),
    )


def _levels(foci: list[Focus], grid: Grid) -> list[tuple[Box, np.ndarray]]:
    """Bounding box of each focus on the grid, and its levels (3, x, y, z) there."""
    boxes = [find_box(grid, focus.levels.low, focus.levels.high) for focus in foci]
    return [(box, focus.levels(crop_grid(grid, box))) for focus, box in zip(foci, boxes, strict=True)]


def _merged(levels: list[tuple[Box, np.ndarray]], shape: tuple[int, ...]) -> np.ndarray:
    """(3, X, Y, Z): maximum of the levels of all foci."""
    merged = np.full((3, *shape), -FAR, dtype=np.float32)
    for box, level in levels:
        region = merged[(slice(None), *box)]
        np.maximum(region, level, out=region)
    return merged


def _fractions(core: np.ndarray, oedema: np.ndarray, tissue: Tissue) -> tuple[np.ndarray, np.ndarray]:
    """Fractions of core and oedema, limited to the tissue that can contain them."""
    solid = tissue.brain * (1 - tissue.ventricle)
    deep = np.clip((tissue.depth - 15) / 10, 0, 1)
    core = expit(4 * core) * np.clip(tissue.white + tissue.grey + 0.5 * tissue.fluid, 0, 1) * solid
    room = np.clip(tissue.white + (0.35 + 0.45 * deep) * tissue.grey, 0, 1) * solid
    return core, expit(4 * oedema) * room * (1 - core)
