"""Location of the deep structures in the average brain: for each, chains of spheres and a range of T1 intensity.

A structure consists of the voxels inside its chains whose T1 intensity is in its range. The chains were placed by hand
in the right hemisphere of the ICBM 152 average (2009a, symmetric); the left hemisphere is its mirror image. A voxel
inside two structures belongs to the one in which it lies deeper.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

Sphere = tuple[float, float, float, float]  # centre x, y, z and radius, mm of the average brain


@dataclass(frozen=True)
class Structure:
    """One deep structure.

    Attributes:
        label: id of `data.regions` on the right side or in the midline.
        levels: least and greatest T1 intensity relative to white matter.
        chains: of spheres (x, y, z, radius) in mm.
    """

    label: int
    levels: tuple[float, float]
    chains: tuple[tuple[Sphere, ...], ...]

    def depth(self, points: np.ndarray) -> np.ndarray:
        """Depth of points (3, …) inside the chains in mm; negative outside."""
        links = [_inside_link(points, start, end) for chain in self.chains for start, end in pairwise(chain)]
        return np.max(links, axis=0)


def _inside_link(points: np.ndarray, start: Sphere, end: Sphere) -> np.ndarray:
    """Depth in mm below the surface of the cone that joins two spheres."""
    a, b = np.array(start[:3], np.float32), np.array(end[:3], np.float32)
    axis, offset = b - a, points - a.reshape(3, *[1] * (points.ndim - 1))
    along = np.clip(np.tensordot(axis, offset, 1) / np.dot(axis, axis), 0, 1)
    gap = offset - axis.reshape(3, *[1] * (points.ndim - 1)) * along
    return start[3] + (end[3] - start[3]) * along - np.sqrt((gap**2).sum(axis=0))


STRUCTURES: dict[str, Structure] = {
    "thalamus": Structure(49, (0.7, 0.925), (
        ((7, -7, 7, 6.8), (10, -16, 8, 10.8), (14, -24, 7, 10.8), (16, -27, 5, 8.8)),
    )),
    "caudate": Structure(50, (0.66, 0.89), (
        ((10, 16, -3, 6.7), (11.5, 15, 4, 8.2), (13.5, 11, 10, 8.2), (16, 4, 17, 6.7), (18, -6, 21, 5.2),
         (19, -15, 22, 4.2), (21.5, -24, 20, 3.7)),
    )),
    "putamen": Structure(51, (0.7, 0.915), (
        ((22, 14, -5, 7.5), (26, 5, 0, 9), (30, -5, 3, 7), (32, -14, 4, 4)),
        ((24, 11, 6, 7.5), (28, -2, 9, 6)),
    )),
    "pallidum": Structure(52, (0.84, 0.97), (((16, 3, -3, 4.9), (19.5, -2, -1, 6.9), (23, -8, 2, 5.4)),)),
    "hippocampus": Structure(53, (0.58, 0.86), (
        ((22, -11, -21, 5.9), (28, -15, -19, 7.4), (31, -22, -15, 6.9), (30.5, -29, -9.5, 6.4), (27, -35, -4, 5.4),
         (20, -37, 1, 4.4)),
    )),
    "amygdala": Structure(54, (0.62, 0.85), (((23, -3, -19, 7.8), (25, -2, -22, 6.8)),)),
    "accumbens": Structure(58, (0.66, 0.86), (((9, 12, -8, 5.4), (12, 10, -7, 4.9)),)),
    "ventral diencephalon": Structure(60, (0.76, 1.1), (
        ((6, -8, -8, 5.6), (10, -13, -6, 7.1), (13, -17, -6, 6.1)), ((6, -18, -7, 6.1), (9, -23, -6, 5.6)),
    )),
    "lateral ventricle": Structure(43, (0, 0.66), (
        ((6, 26, 0, 9), (8, 18, 10, 9), (9, 0, 19, 10), (13, -20, 22, 11), (23, -38, 15, 13), (28, -48, 7, 10),
         (27, -62, 4, 6)),
    )),
    "temporal horn": Structure(44, (0, 0.73), (
        ((33, -9, -23, 2.5), (36.5, -14, -22, 3), (38, -22, -17, 3), (37, -30, -11, 3), (34.5, -36, -5, 3)),
    )),
    "third ventricle": Structure(14, (0, 0.73), (
        ((0, 3, -9, 3.5), (0, -4, -4, 4), (0, -14, 1, 4.5), (0, -24, 4, 4.5)), ((0, -2, 2, 4), (0, -20, 10, 4)),
    )),
    "fourth ventricle": Structure(15, (0, 0.74), (
        ((0, -36, -14, 2), (0, -39, -22, 4), (0, -43, -30, 7), (0, -45, -38, 8), (0, -44, -46, 4)),
    )),
}  # fmt: skip
FLUID = ("lateral ventricle", "temporal horn", "third ventricle", "fourth ventricle")
CHOROID_PLEXUS = Structure(43, (0, 1), (((9, -8, 17, 1.2), (14, -25, 17, 2), (22, -36, 11, 3.5), (25, -40, 4, 3)),))

# The brainstem; below it the tentorium, the roof of the cerebellum.
BRAINSTEM = Structure(16, (0.6, 1.1), (
    ((5, -20, -13, 9), (5, -25, -24, 14), (4, -28, -34, 15), (2, -36, -46, 10), (0, -42, -60, 8), (0, -45, -75, 8)),
))  # fmt: skip


def tentorium(points: np.ndarray) -> np.ndarray:
    """Approximate height z in mm of the tentorium at points (3, …), to place seeds above and below it."""
    x, y, _ = points
    return 4 - 0.6 * np.abs(x) - 0.25 * np.clip(-50 - y, 0, None)
