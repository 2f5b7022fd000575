from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.geometries import geometries, shapes, where
from hypothesis import given, settings
from hypothesis import strategies as st

from meddiffusers.data.preprocessing.slices import Plane, Slices, assemble, slices
from meddiffusers.data.preprocessing.transforms import Preprocessing
from meddiffusers.data.scan import Scan

few = settings(max_examples=40, deadline=None)
# What grows from row to row and from column to column in mm, as a sign and an axis; the axis of the slices.
LAYOUTS: dict[Plane, tuple[tuple[int, int], tuple[int, int], int]] = {
    "axial": ((-1, 1), (-1, 0), 2),
    "coronal": ((-1, 2), (-1, 0), 1),
    "sagittal": ((-1, 2), (-1, 1), 0),
}
planes = st.sampled_from(list(LAYOUTS))


@few
@given(geometries(), shapes, planes)
def test_images_lie_as_documented(affine: np.ndarray, shape: tuple[int, ...], plane: Plane) -> None:
    """The channels are the voxels' positions in mm, so that every pixel contains its position."""
    cut = slices(Scan(where(affine, shape), affine, ("x", "y", "z")), plane)
    (down, row), (right, column), across = LAYOUTS[plane]
    assert (down * np.diff(cut.array[:, row], axis=1) > 0).all()
    assert (right * np.diff(cut.array[:, column], axis=2) > 0).all()
    assert (np.diff(cut.positions) > 0).all()
    np.testing.assert_allclose(cut.array[:, across].mean(axis=(1, 2)), cut.positions, atol=1e-9)
    np.testing.assert_array_equal(cut.numbers, np.arange(len(cut.array)))


@few
@given(geometries(), shapes, planes, st.sampled_from([bool, np.uint8, np.int16, np.float32, np.float64]))
def test_slices_assemble_to_the_bits_they_were_cut_from(
    affine: np.ndarray, shape: tuple[int, ...], plane: Plane, dtype: Any
) -> None:
    array = np.random.default_rng(0).integers(0, 200, (2, *shape)).astype(dtype)
    scan = Scan(array, affine, ("t1", "t2"))
    back = assemble(slices(scan, plane), scan)
    assert back.array.dtype == dtype
    assert back.array.tobytes() == scan.array.tobytes()
    assert back.affine.tobytes() == scan.affine.tobytes()
    assert back.modality == scan.modality


def test_brats_slices() -> None:
    affine = np.array([[-1, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])
    scan = Scan(np.arange(2 * 3 * 155).reshape(2, 3, 155), affine, "t1")
    cut = slices(scan, leave_out=(80, 26))
    assert cut.array.shape == (49, 1, 3, 2)
    assert (cut.numbers[0], cut.numbers[-1], cut.positions[0]) == (80, 128, 80)
    np.testing.assert_array_equal(cut.array[0, 0], scan.array[0, :, :, 80].T)  # LPS lies as images do
    back = assemble(replace(cut, array=np.ones_like(cut.array)), scan, fill=7).array[0]
    assert (back[..., 80:129] == 1).all()
    assert (back[..., :80] == 7).all()
    assert (back[..., 129:] == 7).all()


def test_masks_on_preprocessed_slices_map_to_the_file() -> None:
    """The whole chain: preprocess, cut, mark pixels, assemble, invert."""
    rng = np.random.default_rng(0)
    array = np.zeros((12, 14, 10), np.int16)
    array[3:9, 4:11, 2:9] = rng.integers(1, 1000, (6, 7, 7))
    scan = Scan(array, np.diag([-1.0, 1.0, -2.0, 1.0]), "t1")
    preprocessed = Preprocessing(size=(16, 16, 16))(scan)
    cut = slices(preprocessed.image, leave_out=(1, 1))
    masks = replace(cut, array=(cut.array > 0.5).astype(np.uint8), modality=("labels",))
    restored = preprocessed.invert(assemble(masks, preprocessed.image))
    middle = preprocessed.windows[0].mean()
    np.testing.assert_array_equal(restored.array[0], array > middle)
    assert restored.affine.tobytes() == scan.affine.tobytes()


def test_what_does_not_fit_is_refused() -> None:
    scan = Scan(np.zeros((4, 5, 6)), np.eye(4), "t1")
    cut = slices(scan)
    with pytest.raises(ValueError, match=r"leave_out=\(3, 3\) of 6 axial slices; expected to leave at least one"):
        slices(scan, leave_out=(3, 3))
    with pytest.raises(ValueError, match="plane='oblique'; expected one of axial, coronal, sagittal"):
        slices(scan, "oblique")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"Got axial slices of \(4, 5\) pixels, .*expected \(5, 4\) and less than 6"):
        assemble(replace(cut, array=np.zeros((6, 1, 4, 5))), scan)
    with pytest.raises(ValueError, match="the last number 8; expected"):
        assemble(replace(cut, numbers=cut.numbers + 3), scan)
    with pytest.raises(ValueError, match=r"numbers \(6,\), positions \(6,\) and 1 names; expected \(B, C, H, W\)"):
        Slices(np.zeros((6, 5, 4)), cut.numbers, cut.positions, ("t1",))
