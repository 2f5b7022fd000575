"""White-matter lesions of small-vessel disease: periventricular bands and caps, and deep spots and patches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from meddiffusers.data.phantoms.brain.boxes import crop_grid, find_box, shape_of
from meddiffusers.data.phantoms.brain.lesions.appearance import LesionAppearance, random_appearance
from meddiffusers.data.phantoms.brain.lesions.places import random_place
from meddiffusers.data.phantoms.brain.lesions.raters import Raters, uncertain_raters
from meddiffusers.data.phantoms.brain.smooth_field import Grid, SmoothField, points_of
from meddiffusers.data.phantoms.brain.tissue import Surroundings, Tissue

_CAP = 11.0  # mm, extent of a cap around the horn of the ventricle


@dataclass(frozen=True)
class Spot:
    """A deep lesion: an ellipsoid.

    Attributes:
        centre: (3,) mm.
        radius: mm.
        form: (3, 3), rows are the axes divided by their half lengths.
        left_out_by: raters who miss the lesion.
    """

    centre: np.ndarray
    radius: float
    form: np.ndarray
    left_out_by: frozenset[int]


@dataclass(frozen=True)
class Band:
    """Periventricular lesions; lengths in mm.

    Attributes:
        thickness: mean thickness of the band; negative for little or none.
        cap: additional thickness at the horns.
        horns: (N, 3) positions of the horns.
    """

    thickness: float
    cap: float
    horns: np.ndarray


class WhiteMatterLesions:
    """All white-matter lesions of one brain, with the interface of `lesions.Lesion`."""

    def __init__(
        self,
        spots: list[Spot],
        band: Band,
        margin: float,
        detail: SmoothField,
        raters: Raters,
        appearance: LesionAppearance,
    ) -> None:
        self.spots, self.band, self.appearance = spots, band, appearance
        self._margin, self._detail, self._raters = margin, detail, raters

    def displacement(self, grid: Grid) -> np.ndarray | None:
        return None

    def parts(self, grid: Grid, tissue: Tissue) -> dict[str, np.ndarray]:
        detail = self._detail(grid)
        level = self._with_spots(self._band_level(grid, tissue, detail), grid, detail, self.spots)
        return {"white_matter_lesion": _fraction(level, _room(tissue))}

    def raters(self, grid: Grid, tissue: Tissue) -> np.ndarray:
        detail, room = self._detail(grid), _room(tissue)
        certain = [spot for spot in self.spots if not spot.left_out_by]
        level = self._with_spots(self._band_level(grid, tissue, detail), grid, detail, certain)
        outlines = []
        for rater, offset in enumerate(self._raters.offsets(grid)):
            ambiguous = [spot for spot in self.spots if spot.left_out_by and rater not in spot.left_out_by]
            seen = self._with_spots(level.copy(), grid, detail, ambiguous)
            outlines.append(_fraction(seen + offset, room) > 0.5)
        return np.stack(outlines)

    def _band_level(self, grid: Grid, tissue: Tissue, detail: np.ndarray) -> np.ndarray:
        """Level set in margin widths, 0 where the fraction of bands and caps is one half."""
        cap = np.max([_bell(grid, horn) for horn in self.band.horns] or [np.zeros(shape_of(grid), np.float32)], axis=0)
        band = self.band.thickness + 0.5 * abs(self.band.thickness) * detail[0]
        thickness = band + self.band.cap * cap * (1 + 0.3 * detail[0])
        return (thickness - np.abs(tissue.ventricle_distance)) / self._margin

    def _with_spots(self, level: np.ndarray, grid: Grid, detail: np.ndarray, spots: list[Spot]) -> np.ndarray:
        """Add the spots to the level set in place."""
        for spot in spots:
            reach = 2.2 * spot.radius + 3
            box = find_box(grid, spot.centre - reach, spot.centre + reach)
            if not level[box].size:
                continue
            offset = points_of(crop_grid(grid, box)) - spot.centre.reshape(3, 1, 1, 1).astype(np.float32)
            distance = spot.radius * np.sqrt((np.tensordot(spot.form, offset, 1) ** 2).sum(axis=0))
            height = spot.radius * (1 + 0.3 * detail[(1, *box)]) - distance
            np.maximum(level[box], height / min(self._margin, 0.6 * spot.radius), out=level[box])
        return level


def random_white_matter_lesions(
    rng: np.random.Generator, difficulty: float, surroundings: Surroundings, age: float
) -> WhiteMatterLesions:
    """Sample lesions whose number and size grow with age in years; harder ones are fewer, smaller and fainter."""
    burden = np.clip((age - 25) / 55, 0.08, 1.3) * np.exp(0.4 * rng.standard_normal()) * (1 - 0.5 * difficulty)
    patches = [random_place(rng, surroundings, (6, 60)) for _ in range(3 + rng.poisson(13 * burden))]
    spots = []
    for centre in patches:
        radius = float(np.clip(np.exp(rng.normal(np.log(1.7 + 1.6 * burden), 0.4)), 1.2, 7))
        ambiguity = 0.6 * difficulty * np.exp(-radius / 4)
        spots.append(_spot(rng, centre, radius, ambiguity))
        for _ in range(rng.poisson(1.2 * burden)):  # confluent neighbours
            beside = centre + 1.3 * radius * rng.standard_normal(3)
            spots.append(_spot(rng, beside, radius * rng.uniform(0.5, 1.0), ambiguity))
    band = Band(
        thickness=float(min(-0.8 + 2.6 * burden * rng.uniform(0.5, 1.4), 6)),
        cap=float(min(0.8 + 5.5 * burden * rng.uniform(0.4, 1.4), 10)),
        horns=_horns(rng, surroundings),
    )
    margin = float(0.4 + difficulty * rng.uniform(0.3, 0.9))
    return WhiteMatterLesions(
        spots,
        band,
        margin,
        SmoothField(rng, 6.0, 2),
        Raters(rng, 6.0, 0.12 + 0.14 * difficulty),
        random_appearance(rng, difficulty),
    )


def _spot(rng: np.random.Generator, centre: np.ndarray, radius: float, ambiguity: float) -> Spot:
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    axes = np.exp(0.3 * rng.standard_normal(3)).clip(0.6, 1.7)
    form = turn / (radius * axes / np.cbrt(axes.prod()))[:, None]
    return Spot(centre, radius, form.astype(np.float32), uncertain_raters(rng, ambiguity))


def _horns(rng: np.random.Generator, surroundings: Surroundings) -> np.ndarray:
    """(N, 3): most anterior and most posterior points in the ventricles of each hemisphere."""
    points = rng.uniform((-40, -80, -30), (40, 50, 50), (6000, 3))
    tissue = surroundings(points)
    inside = points[(tissue.ventricle > 0.5) & (tissue.cerebrum > 0.5)]
    halves = [half for half in (inside[inside[:, 0] < 0], inside[inside[:, 0] > 0]) if len(half)]
    ends = [half[pick(half[:, 1])] for half in halves for pick in (np.argmin, np.argmax)]
    return np.array(ends).reshape(-1, 3)


def _bell(grid: Grid, centre: np.ndarray) -> np.ndarray:
    """Gaussian weight: 1 at the centre, falling to 0 over about 20 mm."""
    x, y, z = (
        np.exp(-((np.asarray(planes) - middle) ** 2) / (2 * _CAP**2)).astype(np.float32)
        for planes, middle in zip(grid, centre, strict=True)
    )
    return x[:, None, None] * y[:, None] * z


def _room(tissue: Tissue) -> np.ndarray:
    """Fraction of tissue that can contain white-matter lesions."""
    room = np.clip(tissue.white + 0.15 * tissue.grey, 0, 1) * tissue.brain
    return room * tissue.cerebrum * (1 - tissue.ventricle)


def _fraction(level: np.ndarray, room: np.ndarray) -> np.ndarray:
    return expit(4 * level) * room
