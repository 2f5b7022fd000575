"""White-matter lesions of small-vessel disease: bands and caps along the ventricles, spots and patches in the depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from meddiffusers.data.brain_phantom.boxes import cut, shape_of, within
from meddiffusers.data.brain_phantom.lesion_look import LesionLook, random_look
from meddiffusers.data.brain_phantom.lesion_places import place
from meddiffusers.data.brain_phantom.local_field import coordinates
from meddiffusers.data.brain_phantom.raters import RATERS, Raters, doubters
from meddiffusers.data.brain_phantom.smooth_field import Grid, SmoothField
from meddiffusers.data.brain_phantom.tissue import Surroundings, Tissue

_FAR = 9.0  # margin widths beyond the border
_CAP = 11.0  # mm, how far a cap is felt around its horn


@dataclass(frozen=True)
class Spot:
    """A lesion in the depth: an ellipsoid whose rows of `form` (3, 3) are its axes over their length, to radius 1."""

    centre: np.ndarray
    radius: float
    form: np.ndarray
    left_out_by: frozenset[int]


@dataclass(frozen=True)
class Band:
    """Along the ventricles: mean thickness, and that of the caps about the horns (N, 3), in mm."""

    thickness: float
    cap: float
    horns: np.ndarray


class WhiteMatterLesions:
    """All white-matter lesions of one brain; see `lesions.Lesion` for what it answers."""

    def __init__(
        self, spots: list[Spot], band: Band, margin: float, detail: SmoothField, raters: Raters, look: LesionLook
    ) -> None:
        self.spots, self.band, self.look = spots, band, look
        self._margin, self._detail, self._raters = margin, detail, raters

    def push(self, grid: Grid) -> np.ndarray | None:
        return None

    def parts(self, grid: Grid, tissue: Tissue) -> dict[str, np.ndarray]:
        level = self._level(grid, tissue, self._detail(grid), self.spots)
        return {"white_matter_lesion": _fraction(level, tissue)}

    def raters(self, grid: Grid, tissue: Tissue) -> np.ndarray:
        detail, offsets = self._detail(grid), self._raters.offsets(grid)
        outlines = []
        for rater in range(RATERS):
            seen = [spot for spot in self.spots if rater not in spot.left_out_by]
            level = self._level(grid, tissue, detail, seen) + offsets[rater]
            outlines.append(_fraction(level, tissue) > 0.5)
        return np.stack(outlines)

    def _level(self, grid: Grid, tissue: Tissue, detail: np.ndarray, spots: list[Spot]) -> np.ndarray:
        """In margin widths, 0 where the soft fraction is one half."""
        cap = np.zeros(shape_of(grid), dtype=np.float32)
        for horn in self.band.horns:
            cap = np.maximum(cap, _bell(grid, horn))
        thickness = self.band.thickness * (1 + 0.6 * detail[0]) + self.band.cap * cap * (1 + 0.3 * detail[0])
        level = (thickness - np.abs(tissue.ventricle_distance)) / self._margin
        for spot in spots:
            box = within(grid, spot.centre - 2.6 * spot.radius - 4, spot.centre + 2.6 * spot.radius + 4)
            offset = coordinates(cut(grid, box)) - spot.centre.reshape(3, 1, 1, 1).astype(np.float32)
            distance = spot.radius * np.sqrt((np.tensordot(spot.form, offset, 1) ** 2).sum(axis=0))
            bulges = 1 + 0.3 * detail[(1, *box)]
            margin = min(self._margin, 0.9 * spot.radius)
            np.maximum(level[box], (spot.radius * bulges - distance) / margin, out=level[box])
        return level


def random_white_matter_lesions(
    rng: np.random.Generator, difficulty: float, surroundings: Surroundings, age: float
) -> WhiteMatterLesions:
    """Lesions whose number and size grow with the age in years; the harder, the fewer, smaller and fainter."""
    burden = np.clip((age - 25) / 55, 0.08, 1.3) * np.exp(0.4 * rng.standard_normal()) * (1 - 0.6 * difficulty)
    patches = [place(rng, surroundings, (6, 60)) for _ in range(2 + rng.poisson(9 * burden))]
    spots = []
    for centre in patches:
        radius = float(np.clip(np.exp(rng.normal(np.log(1.7 + 1.3 * burden), 0.35)), 1.2, 7))
        doubt = 0.6 * difficulty * np.exp(-radius / 4)
        spots.append(_spot(rng, centre, radius, doubt))
        for _ in range(rng.poisson(1.2 * burden)):  # neighbours that flow together
            beside = centre + 1.3 * radius * rng.standard_normal(3)
            spots.append(_spot(rng, beside, radius * rng.uniform(0.5, 1.0), doubt))
    band = Band(
        thickness=float(min(0.3 + 2.2 * burden * rng.uniform(0.4, 1.4), 6)),
        cap=float(min(1 + 5 * burden * rng.uniform(0.4, 1.4), 10)),
        horns=_horns(rng, surroundings),
    )
    margin = float(0.8 + difficulty * rng.uniform(0.6, 1.8))
    return WhiteMatterLesions(
        spots, band, margin, SmoothField(rng, 6.0, 2), Raters(rng, 6.0), random_look(rng, difficulty)
    )


def _spot(rng: np.random.Generator, centre: np.ndarray, radius: float, doubt: float) -> Spot:
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    axes = np.exp(0.3 * rng.standard_normal(3)).clip(0.6, 1.7)
    form = turn / (radius * axes / np.cbrt(axes.prod()))[:, None]
    return Spot(centre, radius, form.astype(np.float32), doubters(rng, doubt))


def _horns(rng: np.random.Generator, surroundings: Surroundings) -> np.ndarray:
    """(N, 3): foremost and rearmost points found in the ventricles of each hemisphere."""
    points = rng.uniform((-40, -80, -30), (40, 50, 50), (6000, 3))
    tissue = surroundings(points)
    inside = points[(tissue.ventricle > 0.5) & (tissue.cerebrum > 0.5)]
    halves = [half for half in (inside[inside[:, 0] < 0], inside[inside[:, 0] > 0]) if len(half)]
    ends = [half[pick(half[:, 1])] for half in halves for pick in (np.argmin, np.argmax)]
    return np.array(ends).reshape(-1, 3)


def _bell(grid: Grid, centre: np.ndarray) -> np.ndarray:
    """1 at the centre, falling to 0 over some 20 mm."""
    x, y, z = (
        np.exp(-((np.asarray(planes) - middle) ** 2) / (2 * _CAP**2)).astype(np.float32)
        for planes, middle in zip(grid, centre, strict=True)
    )
    return x[:, None, None] * y[:, None] * z


def _fraction(level: np.ndarray, tissue: Tissue) -> np.ndarray:
    room = np.clip(tissue.white + 0.15 * tissue.grey, 0, 1) * tissue.brain * tissue.cerebrum * (1 - tissue.ventricle)
    return expit(4 * level) * room
