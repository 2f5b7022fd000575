"""FreeSurfer's MGH, by path and as a nibabel image."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest

from meddiffusers.data.io import read

AFFINE = np.array([[-1, 0, 0, 3], [0, 0, 2.0, 1], [0, -1.5, 0, 2], [0, 0, 0, 1]])
ARRAY = np.arange(48).reshape(2, 3, 4, 2)


@pytest.mark.parametrize("name", ["p1_t1.mgz", "p1_t1.mgh"])
@pytest.mark.parametrize("kind", ["uint8", "int16", "int32", "float32"])
def test_path_and_image_give_one_scan(tmp_path: Path, name: str, kind: str) -> None:
    for array in (ARRAY[..., 0].astype(kind), ARRAY.astype(kind)):
        nibabel.save(nibabel.MGHImage(array, AFFINE), tmp_path / name)
        scan, other = read(tmp_path / name), read(nibabel.load(tmp_path / name))
        for one in (scan, other):
            np.testing.assert_array_equal(one.array, np.moveaxis(array.reshape(2, 3, 4, -1), -1, 0))
            np.testing.assert_allclose(one.affine, AFFINE, atol=1e-6)
            assert (one.modality, one.modality_from) == (("t1",) * len(scan.array), "name: t1")
            assert one.array.dtype == kind


def test_texts_behind_the_voxels_are_dropped_and_damage_is_named(tmp_path: Path) -> None:
    nibabel.save(nibabel.MGHImage(ARRAY[..., 0].astype("int16"), AFFINE), path := tmp_path / "a.mgz")
    whole = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(whole + b"mri_convert /home/secret"))
    np.testing.assert_array_equal(read(path).array[0], ARRAY[..., 0])
    for broken in (whole[:330], gzip.compress(whole[:330]), gzip.compress(whole)[:-12], whole[:100], b""):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"a\.mgz: .*; expected"):
            read(path)


def test_an_image_without_orientation_has_a_note(tmp_path: Path) -> None:
    image = nibabel.MGHImage(ARRAY[..., 0].astype("int16"), AFFINE)
    nibabel.save(image, path := tmp_path / "a.mgh")
    content = bytearray(path.read_bytes())
    content[28:30] = b"\0\0"
    path.write_bytes(content)
    scan = read(path)
    assert scan.notes == (
        "no orientation (goodRASFlag 0): that of a coronal scan of 1 mm is taken, as FreeSurfer does",
    )
    np.testing.assert_allclose(scan.affine, read(nibabel.load(path)).affine)
