"""Random voxel grids, and the positions of their voxels."""

from __future__ import annotations

import nibabel
import numpy as np
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

CODES = ("RAS", "LPS", "LAS", "PIR", "SRA", "IPL")


@st.composite
def geometries(draw: st.DrawFn) -> np.ndarray:
    """Affines of any orientation, oblique up to 20°, with voxels of 0.5 to 3 mm."""
    codes = nibabel.orientations.axcodes2ornt(draw(st.sampled_from(CODES)))
    turns = nibabel.orientations.inv_ornt_aff(codes, (1, 1, 1))[:3, :3]
    angles = [draw(st.floats(-20, 20)) for _ in range(3)]
    spacing = [draw(st.floats(0.5, 3)) for _ in range(3)]
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ turns @ np.diag(spacing)
    affine[:3, 3] = [draw(st.floats(-100, 100)) for _ in range(3)]
    return affine


shapes = st.tuples(*[st.integers(3, 9)] * 3)


def where(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Positions (3, X, Y, Z) of the voxels' centres in mm."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return np.moveaxis(index @ affine[:3, :3].T + affine[:3, 3], -1, 0)
