"""A second generator of beating hearts, of other mathematics than the phantom, to judge the repair of sequences.

No training, fitting or tuning may import it. The phantom draws outlines by formulas; here an interpolating spline runs
through control points that move in a low-rank space: c(t) = c₀ + a(t)·contraction + b(t)·descent + d(t)·torsion, with
the time course of a double Hill activation. Papillary muscles notch the endocardium in systole. The wall is a second
spline of thicknesses, with regional thinning, a septal bulge or an aneurysm.

A segmenter's errors are simulated too: a jitter of both borders that is correlated along the outline and independent
between frames, and frames that are spoilt altogether.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter, gaussian_filter1d, rotate, shift
from skimage.draw import polygon2mask

LV, MYO = 1, 2
POINTS = 241  # of an outline
ANGLES = np.linspace(-1, 1, 9)  # control points from the left corner of the base (−1) over the apex (0) to the right
SPOILS = ("shifted", "turned", "torn", "swollen", "hole", "island", "half")


@dataclass(frozen=True)
class SplineHeart:
    """One heart, at end diastole unless noted otherwise; lengths in mm, angles in degrees.

    Args:
        width: Largest width of the cavity.
        length: From the base to the apex.
        wall: Mean thickness of the wall.
        ejection_fraction: Of the volume by the area–length method, in (0, 1).
        tilt: Angle of the long axis to the vertical.
        centre: Offset of the heart from the image's middle (x, y).
        end_systole: Its phase, as a fraction of the cycle.
        shape: Relative displacements of the 9 control points outwards.
        regions: Thickness of the wall at the 9 control points over its mean.
        torsion: Shift along the outline at end systole, as a fraction of half its length.
        notch: Depth of the papillary muscles at end systole.
        seed: Seed of jitter and spoilt frames.
    """

    width: float = 48.0
    length: float = 86.0
    wall: float = 9.0
    ejection_fraction: float = 0.6
    tilt: float = 0.0
    centre: tuple[float, float] = (0.0, 0.0)
    end_systole: float = 0.36
    shape: tuple[float, ...] = (0.0,) * 9
    regions: tuple[float, ...] = (1.0,) * 9
    torsion: float = 0.02
    notch: float = 1.5
    seed: int = 0

    def outlines(self, phases: np.ndarray, jitter: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Endocardium and epicardium `(T, P, 2)`, x and y in mm from the image's middle, apex up.

        Args:
            phases: `(T,)`, fractions of a cycle from end diastole.
            jitter: Standard deviation of each border's displacement in mm.
        """
        activation = hill_activation(phases, self.end_systole)
        rng = np.random.default_rng([self.seed, 1])
        noise = [_correlated(rng, len(phases)) * jitter for _ in range(2)]
        pairs = [self._outline(a, inner, outer) for a, inner, outer in zip(activation, *noise, strict=True)]
        endocardium, epicardium = (np.stack(each) for each in zip(*pairs, strict=True))
        return endocardium, epicardium

    def labels(
        self, phases: np.ndarray, shape: tuple[int, int] = (160, 160), spacing: float = 1.0, jitter: float = 0.0
    ) -> np.ndarray:
        """Label maps `(T, H, W)`, uint8: 1 cavity, 2 myocardium."""
        frames = []
        middle = np.array([shape[1], shape[0]]) / 2 - 0.5
        for endocardium, epicardium in zip(*self.outlines(phases, jitter), strict=True):
            inner, outer = (
                polygon2mask(shape, (each / spacing + middle)[:, ::-1]) for each in (endocardium, epicardium)
            )
            frames.append(np.where(inner, LV, np.where(outer, MYO, 0)).astype(np.uint8))
        return np.stack(frames)

    def _outline(self, activation: float, inner: np.ndarray, outer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        s = np.linspace(-1, 1, POINTS)
        short, narrow = self._strains(activation)
        turned = s + self.torsion * activation * (1 - s**2)
        control = self._control(short, narrow)
        curve = CubicSpline(ANGLES, control)(turned)
        normal = _normals(curve)
        notch = self.notch * activation * (np.exp(-(((s + 0.45) / 0.07) ** 2)) + np.exp(-(((s - 0.42) / 0.08) ** 2)))
        base = CubicSpline(ANGLES, np.array(self.regions))(s) * self.wall
        thickness = base * (1 + 0.55 * self.ejection_fraction * activation)  # walls thicken as the cavity empties
        epicardium = curve + (np.maximum(thickness, 1.5) + outer)[:, None] * normal
        epicardium[:, 1] -= np.abs(s) ** 24  # the wall ends 1 mm above the mitral plane, so that the cavity is open
        endocardium = curve + (inner - notch)[:, None] * normal
        return self._place(endocardium), self._place(epicardium)

    def _strains(self, activation: float) -> tuple[float, float]:
        """Length and width over those at end diastole; V is proportional to length · width²."""
        short = 1 - 0.22 * self.ejection_fraction * activation
        return short, float(np.sqrt((1 - self.ejection_fraction * activation) / short))

    def _control(self, short: float, narrow: float) -> np.ndarray:
        """Control points (9, 2): x to the right, y downwards from the apex at rest."""
        swing = np.sin(np.pi / 2 * ANGLES)
        height = 1 - np.abs(ANGLES) ** 1.7
        half = self.width / 2 * narrow * np.sign(swing) * np.abs(swing) ** 0.8 * (1 - 0.25 * np.abs(ANGLES) ** 6)
        outward = 1 + np.array(self.shape) * (1 - np.abs(ANGLES) ** 8)
        along = self.length * (1 - short * height) - self.length * (1 - short)
        return np.stack([half * outward, along], axis=-1)

    def _place(self, points: np.ndarray) -> np.ndarray:
        angle = np.deg2rad(self.tilt)
        right, down = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        return points[:, :1] * right + (points[:, 1:] - self.length / 2) * down + np.array(self.centre)


def sample_spline_heart(seed: int, **given: float) -> SplineHeart:
    """Sample a heart; values that are given replace sampled ones."""
    rng = np.random.default_rng([seed, 0])
    regions = 1 + gaussian_filter1d(0.18 * rng.standard_normal(9), 0.8, mode="nearest")
    kind = rng.integers(6)
    if kind == 0:  # septal bulge
        regions[1:3] *= 1.45
    if kind == 1:  # a thin scar
        regions[5:8] *= 0.6
    shape = gaussian_filter1d(0.10 * rng.standard_normal(9), 0.9, mode="nearest")
    if kind == 2:  # apical aneurysm
        shape[3:6] += 0.12
    values = {
        "width": rng.uniform(34, 60),
        "length": rng.uniform(68, 105),
        "wall": rng.uniform(6, 14),
        "ejection_fraction": rng.uniform(0.3, 0.72),
        "tilt": rng.uniform(-25, 25),
        "end_systole": rng.uniform(0.3, 0.45),
        "torsion": rng.uniform(-0.04, 0.04),
        "notch": rng.uniform(0, 3),
    }
    values.update(given)
    return SplineHeart(**values, shape=tuple(shape), regions=tuple(regions), seed=seed)  # type: ignore[arg-type]


def hill_activation(phases: np.ndarray, end_systole: float) -> np.ndarray:
    """Double Hill function of the phase: 0 at end diastole, 1 at end systole (Stergiopulos et al., 1996)."""

    def raw(phase: np.ndarray) -> np.ndarray:
        rise = (phase / (0.62 * end_systole)) ** 2.4
        fall = (phase / (1.28 * end_systole)) ** 11
        return rise / (1 + rise) / (1 + fall)

    grid = np.linspace(0, 1, 2001)
    values = raw(grid)
    leak = values[-1] * grid**6  # so that the cycle closes
    curve = (values - leak) / (values - leak).max()
    warped = np.interp(np.asarray(phases) % 1, grid, curve)
    return np.where(np.asarray(phases) == 1, curve[-1], warped)


def spoil(frame: np.ndarray, spacing: float, rng: np.random.Generator) -> np.ndarray:
    """A frame with one gross error of `SPOILS`."""
    kind, mm = SPOILS[rng.integers(len(SPOILS))], 1 / spacing
    heart = np.argwhere(frame > 0)
    row, column = heart[rng.integers(len(heart))]
    rows, columns = np.indices(frame.shape)
    blob = (rows - row) ** 2 + (columns - column) ** 2 < (rng.uniform(5, 12) * mm) ** 2
    if kind == "shifted":
        return shift(frame, rng.uniform(6, 18, 2) * rng.choice([-1, 1], 2) * mm, order=0)
    if kind == "turned":
        return rotate(frame, rng.uniform(15, 35) * rng.choice([-1, 1]), reshape=False, order=0)
    if kind == "torn":
        return np.where(blob, 0, frame).astype(np.uint8)
    if kind == "swollen":
        grown = gaussian_filter((frame == LV).astype(float), rng.uniform(4, 8) * mm) > 0.25
        return np.where(grown & (frame == MYO), LV, frame).astype(np.uint8)
    if kind == "hole":
        return np.where(blob & (frame == LV), MYO, frame).astype(np.uint8)
    if kind == "island":
        far = np.roll(blob, int(60 * mm), axis=rng.integers(2))
        return np.where(far & (frame == 0), LV, frame).astype(np.uint8)
    cut = int(np.quantile(heart[:, 0], rng.uniform(0.25, 0.6)))
    return np.where(rows < cut, 0, frame).astype(np.uint8)


def _correlated(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Unit noise (T, P) with a correlation length of about a tenth of the outline, independent between frames."""
    noise = gaussian_filter1d(rng.standard_normal((frames, POINTS)), POINTS / 24, axis=1, mode="nearest")
    return noise / noise.std()


def _normals(curve: np.ndarray) -> np.ndarray:
    """Outward unit normals (P, 2) of a curve from the left corner over the apex, y downwards."""
    tangent = gaussian_filter1d(np.gradient(curve, axis=0), 2, axis=0, mode="nearest")
    side = np.where(np.arange(len(curve)) < len(curve) // 2, -1.0, 1.0)
    near_base = np.abs(np.linspace(-1, 1, len(curve)))[:, None] ** 12
    level = np.stack([np.zeros_like(side), side], axis=-1) * np.linalg.norm(tangent, axis=1, keepdims=True)
    tangent = (1 - near_base) * tangent + near_base * level  # towards the base, walls end sideways
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    return np.stack([tangent[:, 1], -tangent[:, 0]], axis=-1)
