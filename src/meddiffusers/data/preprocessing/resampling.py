"""Reorient, crop, pad and resample to a grid whose axes are parallel to those of the original one.

matrix  (4, 4)  voxel index of the new grid → voxel index of the old grid: a scaled, signed permutation and an offset.
                Its inverse maps back.
"""

from __future__ import annotations

import nibabel
import numpy as np

Shape = tuple[int, int, int]
GridTransform = tuple[np.ndarray, Shape]  # a matrix and the shape of the new grid


def reorientation(affine: np.ndarray, shape: Shape, codes: str) -> GridTransform:
    """Matrix and shape of the grid whose axes point to `codes`, such as "RAS", by permuting and flipping axes."""
    turns = nibabel.orientations.ornt_transform(
        nibabel.orientations.io_orientation(affine), nibabel.orientations.axcodes2ornt(codes)
    )
    matrix = nibabel.orientations.inv_ornt_aff(turns, shape)
    new = [0, 0, 0]
    for old, (axis, _) in enumerate(turns):
        new[int(axis)] = shape[old]
    return matrix, (new[0], new[1], new[2])


def translation(offset: np.ndarray | list[int]) -> np.ndarray:
    """Matrix of a grid whose first voxel is voxel `offset` of the old grid; negative offsets pad."""
    matrix = np.eye(4)
    matrix[:3, 3] = offset
    return matrix


def respacing(shape: Shape, steps: np.ndarray) -> GridTransform:
    """Matrix and shape of a grid with voxels `steps` times as long, the same centre, and the same extent (rounded)."""
    old = np.array(shape)
    new = np.maximum(np.rint(old / steps), 1)
    matrix = np.diag([*steps, 1.0])
    matrix[:3, 3] = (old - 1) / 2 - steps * (new - 1) / 2
    x, y, z = new.astype(int).tolist()
    return matrix, (x, y, z)


def resample(array: np.ndarray, matrix: np.ndarray, shape: Shape, *, nearest: bool, fill: float = 0) -> np.ndarray:
    """Resample an array to another grid.

    With a matrix of integers, voxels are only selected: values and type do not change. The result may be a view.

    Args:
        array: (C, X, Y, Z).
        matrix: (4, 4), voxel index of the new grid → voxel index of the old grid.
        shape: of the new grid.
        nearest: take the nearest voxel and keep the type; otherwise interpolate linearly (MONAI), float32.
        fill: value outside the old grid.

    Returns:
        (C, *shape).
    """
    matrix = np.where(np.abs(matrix - np.rint(matrix)) < 1e-6, np.rint(matrix), matrix)  # inverses are not exact
    along = np.abs(matrix[:3, :3]).argmax(axis=0)  # the old axis parallel to each new axis
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
    """A slice, which does not copy, if the indices are consecutive."""
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
    # align_corners=True misplaces grids with a single plane.
    interpolate = SpatialResample(mode="bilinear", padding_mode="border", align_corners=False, dtype=np.float32)
    return np.asarray(interpolate(voxels, dst_affine=torch.from_numpy(matrix), spatial_size=shape))
