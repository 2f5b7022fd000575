"""Voxels moved to another grid whose axes run along those of the old one: reoriented, cropped, padded, resampled.

matrix  (4, 4)  voxel index of the new grid → voxel index of the old one: one number in each row and column of the
                upper left 3×3, and an offset. Its inverse is the way back.
"""

from __future__ import annotations

import nibabel
import numpy as np

Shape = tuple[int, int, int]
GridTransform = tuple[np.ndarray, Shape]  # a matrix and the shape of the new grid


def reorientation(affine: np.ndarray, shape: Shape, codes: str) -> GridTransform:
    """To the grid whose axes point to `codes`, such as "RAS", as nearly as turning and flipping axes can."""
    turns = nibabel.orientations.ornt_transform(
        nibabel.orientations.io_orientation(affine), nibabel.orientations.axcodes2ornt(codes)
    )
    matrix = nibabel.orientations.inv_ornt_aff(turns, shape)
    new = [0, 0, 0]
    for old, (axis, _) in enumerate(turns):
        new[int(axis)] = shape[old]
    return matrix, (new[0], new[1], new[2])


def translation(offset: np.ndarray | list[int]) -> np.ndarray:
    """The matrix of a grid whose first voxel is the old one's voxel `offset`, negative for padding."""
    matrix = np.eye(4)
    matrix[:3, 3] = offset
    return matrix


def respacing(shape: Shape, steps: np.ndarray) -> GridTransform:
    """To a grid of voxels `steps` times as long, with the same centre and, up to half a new voxel, the same extent."""
    old = np.array(shape)
    new = np.maximum(np.rint(old / steps), 1)
    matrix = np.diag([*steps, 1.0])
    matrix[:3, 3] = (old - 1) / 2 - steps * (new - 1) / 2
    x, y, z = new.astype(int).tolist()
    return matrix, (x, y, z)


def resample(array: np.ndarray, matrix: np.ndarray, shape: Shape, *, nearest: bool, fill: float = 0) -> np.ndarray:
    """(C, X, Y, Z) → (C, *shape); `fill` where the new grid reaches beyond the old one's voxels.

    A matrix of whole steps only selects voxels: no value and no type changes. Otherwise `nearest` selects the nearest
    voxel, and without it MONAI interpolates linearly, float32. What is returned may be a view.
    """
    matrix = np.where(np.abs(matrix - np.rint(matrix)) < 1e-6, np.rint(matrix), matrix)  # inverses are not exact
    along = np.abs(matrix[:3, :3]).argmax(axis=0)  # for each new axis the old one it runs along
    array, matrix = array.transpose(0, *(along + 1)), matrix[[*along, 3]]
    places = [matrix[axis, axis] * np.arange(shape[axis]) + matrix[axis, 3] for axis in range(3)]
    inside = [(place >= -0.5) & (place < old - 0.5) for place, old in zip(places, array.shape[1:], strict=True)]
    if not all(map(np.any, inside)):
        return np.full((len(array), *shape), fill, array.dtype)
    if nearest or not (matrix % 1).any():
        for axis, (place, within) in enumerate(zip(places, inside, strict=True)):
            array = array[(slice(None),) * (axis + 1) + (_selector(np.floor(place[within] + 0.5).astype(int)),)]
    else:
        array = _interpolated(array, matrix, shape)[(slice(None), *map(_range, inside))]
    if array.shape[1:] == shape:
        return array
    whole = np.full_like(array, fill, shape=(len(array), *shape))
    whole[(slice(None), *map(_range, inside))] = array
    return whole


def _range(inside: np.ndarray) -> slice:
    start = int(inside.argmax())
    return slice(start, start + int(inside.sum()))


def _selector(indices: np.ndarray) -> slice | np.ndarray:
    """A slice, which copies nothing, where the indices go up or down by one."""
    steps = np.diff(indices)
    if len(indices) > 1 and (steps == steps[0]).all() and abs(steps[0]) == 1:
        stop = int(indices[-1] + steps[0])
        return slice(int(indices[0]), None if stop < 0 else stop, int(steps[0]))
    return indices


def _interpolated(array: np.ndarray, matrix: np.ndarray, shape: Shape) -> np.ndarray:
    import torch
    from monai.data.meta_tensor import MetaTensor
    from monai.transforms.spatial.array import SpatialResample

    voxels = MetaTensor(torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)), affine=torch.eye(4))
    # Without align_corners: with it a grid of a single plane is placed wrongly.
    interpolate = SpatialResample(mode="bilinear", padding_mode="border", align_corners=False, dtype=np.float32)
    return np.asarray(interpolate(voxels, dst_affine=torch.from_numpy(matrix), spatial_size=shape))
