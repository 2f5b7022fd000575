"""Warp from subject to template coordinates: size, pose, individual shape and width of the ventricles.

    y = A (x − c) / s + c + u(x / s)          s size, A rotation and proportions, c centre of the brain
    u = exp(v)                                 v smooth random velocities of two scales, by scaling and squaring
    z = y − w(d(y)) ∇d(y) / |∇d(y)|           d distance from the ventricles' wall, w their widening: most for the
                                               lateral ventricles, a third of it for the fourth, and
                                               little beside the thalami

Scaling and squaring (Arsigny et al., MICCAI 2006) keeps u free of folds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch.nn.functional import grid_sample

from meddiffusers.data.phantoms.brain.smooth_field import HIGH, LOW, Grid, SmoothField
from meddiffusers.data.phantoms.brain.template import COARSE, Template

CENTRE = np.array([0.0, -18.0, 10.0], np.float32)
LATTICE = 8.0  # mm between nodes of the displacement
REACH = 9.0  # mm over which the displacement of the ventricles' wall fades into the brain
SQUARINGS = 5
THALAMUS, THALAMUS_REACH, FIRMNESS = (11.0, -17.0, 7.0), 14.0, 0.8  # right one, mm; reduces the widening beside it


@dataclass(frozen=True)
class Warp:
    """Warp from subject to template coordinates.

    Attributes:
        matrix: (3, 3) rotation and proportions.
        displacement: smooth field of three components in mm.
        size: relative to the average brain.
        widening: mm by which the wall of the ventricles is displaced outwards.
    """

    matrix: np.ndarray
    displacement: SmoothField
    size: float = 1.0
    widening: float = 0.0

    @classmethod
    def random(cls, rng: np.random.Generator) -> Warp:
        """Sample pose, proportions and shape of one subject, with the size and ventricles of the average brain."""
        angles, proportions = np.deg2rad(2.2) * rng.standard_normal(3), 1 + 0.02 * rng.standard_normal(3)
        return cls((np.diag(1 / proportions) @ _rotation(angles)).astype(np.float32), _diffeomorphism(rng))

    def __call__(self, grid: Grid, points: np.ndarray) -> np.ndarray:
        """Template coordinates (3, X, Y, Z) in mm of the subject's points, before the ventricles are widened.

        Args:
            grid: at which the displacement is evaluated.
            points: (3, X, Y, Z) mm, the points of the grid, or where a lesion displaced them from.
        """
        centre = CENTRE[:, None, None, None]
        posture = np.tensordot(self.matrix, (points - centre) / np.float32(self.size), 1) + centre
        x, y, z = (
            (np.asarray(planes) - origin) / self.size + origin for planes, origin in zip(grid, CENTRE, strict=True)
        )
        return posture + self.displacement((x, y, z))

    def widened(self, points: np.ndarray, template: Template) -> np.ndarray:
        """Move points (3, N) of the average brain towards the ventricles by the widening of their wall."""
        if abs(self.widening) < 0.02:
            return points
        [wall] = sample_maps(template.distances[:1], points, template.origin, COARSE)
        shift = _wall_shift(wall, self.widening) * _yielding(points)
        near = np.flatnonzero(np.abs(shift) > 0.02)
        close = points[:, near]
        slope = sample_maps(template.distances[3:], close, template.origin, COARSE)
        slope[0] *= np.sign(close[0])  # the maps hold the right half
        slope /= np.sqrt((slope**2).sum(axis=0)) + 0.15
        moved = points.copy()
        moved[:, near] -= slope * shift[near]
        return moved


def _wall_shift(wall: np.ndarray, widening: float) -> np.ndarray:
    """mm by which a point at `wall` mm from the ventricles moves towards them; 0 on their centre line."""
    fading = np.exp(-(np.maximum(wall - widening, 0) ** 2) / (2 * REACH**2))
    return (widening * fading * np.clip((wall + 6) / 6, 0, 1)).astype(np.float32)


def _yielding(points: np.ndarray) -> np.ndarray:
    """(N,) part of the widening applied at points (3, N): small at the fourth ventricle and beside the thalami.

    Ventricles widen mostly upwards and outwards, into white matter; the thalami keep their volume.
    """
    x, y, z = (place - centre for place, centre in zip((np.abs(points[0]), *points[1:]), THALAMUS, strict=True))
    firm = FIRMNESS * np.exp(-(x**2 + y**2 + z**2) / (2 * THALAMUS_REACH**2))
    return (np.clip((points[2] + 24) / 34, 0.35, 1) * (1 - firm)).astype(np.float32)


def sample_maps(maps: np.ndarray, points: np.ndarray, origin: np.ndarray, spacing: float = 1.0) -> np.ndarray:
    """Sample maps (C, X, Y, Z) of the right half at points (3, N) of either half.

    Args:
        maps: (C, X, Y, Z) float32.
        points: (3, N) mm; left points are mirrored.
        origin: (3,) mm of the first voxel.
        spacing: mm between voxels.

    Returns:
        (C, N), trilinear; points outside take the value of the border.
    """
    steps = 2 / (np.array(maps.shape[1:], np.float32) - 1)
    places = (np.abs(points[0]), points[1], points[2])
    unit = [
        (place - np.float32(start)) * (step / np.float32(spacing)) - 1
        for place, start, step in zip(places, origin, steps, strict=True)
    ]
    grid = torch.from_numpy(np.stack(unit[::-1], axis=-1))[None, None, None]
    values = grid_sample(torch.from_numpy(maps)[None], grid, padding_mode="border", align_corners=True)
    return values[0, :, 0, 0].numpy()


def _rotation(angles: np.ndarray) -> np.ndarray:
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = (other for other in range(3) if other != axis)
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix


def _diffeomorphism(rng: np.random.Generator) -> SmoothField:
    nodes = np.ceil((HIGH - LOW) / LATTICE).astype(int) + 3
    x, y, z = (low + LATTICE * (np.arange(count) - 1) for low, count in zip(LOW, nodes, strict=True))
    velocity = 1.6 * _alike(SmoothField(rng, 44, 3), (x, y, z)) + 1.4 * _alike(SmoothField(rng, 20, 3), (x, y, z))
    displacement = velocity / 2**SQUARINGS
    index = np.stack(np.meshgrid(*map(np.arange, nodes), indexing="ij")).astype(np.float32)
    for _ in range(SQUARINGS):
        moved = index + displacement / np.float32(LATTICE)
        displacement = displacement + np.stack(
            [ndimage.map_coordinates(part, moved, order=1, mode="nearest") for part in displacement]
        )
    splines = np.stack([ndimage.spline_filter(part, mode="mirror") for part in displacement])
    return SmoothField(rng, LATTICE, coefficients=splines.astype(np.float32))


def _alike(field: SmoothField, grid: Grid) -> np.ndarray:
    """Three smooth fields as velocities along x, y and z that are approximately left-right symmetric."""
    x, y, z = grid
    one, other = field((x, y, z)), field((-x, y, z)) * np.array([-1, 1, 1], np.float32)[:, None, None, None]
    common, proper = (one + other) / 2**0.5, (one - other) / 2**0.5
    return 0.95 * common + 0.31 * proper
