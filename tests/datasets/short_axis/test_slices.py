"""Short-axis slices of ACDC's layout and of .npz files, with rings whose attributes are known."""

from __future__ import annotations

import logging
from pathlib import Path

import nibabel
import numpy as np
import pytest

from meddiffusers.datasets.attribute_images import AttributeImages, load_attribute_images
from meddiffusers.datasets.short_axis.attributes import SHORT_AXIS_ATTRIBUTES, measure_short_axis
from meddiffusers.datasets.short_axis.slices import load_short_axis_slices
from meddiffusers.datasets.short_axis.volumes import is_short_axis_dataset, load_short_axis_volumes

NAMES = list(SHORT_AXIS_ATTRIBUTES)


def ring(side: int, centre: tuple[float, float], inner: float, outer: float) -> np.ndarray:
    """A slice in the labels of ACDC: 3 LV, 2 myocardium, and 1 RV beside them."""
    y, x = np.mgrid[:side, :side] + 0.5
    distance = np.hypot(y - centre[0], x - centre[1])
    right = (distance >= outer) & (distance < outer + 5) & (x < centre[1])
    return np.select([distance < inner, distance < outer, right], [3, 2, 1], 0).astype(np.uint8)


def stack(number: int, side: int = 80) -> np.ndarray:
    """Five slices: without heart, three rings that narrow, and an apex without a cavity."""
    rings = [ring(side, (38 + i, 40 + number), 12 - 2 * i, 17 - 2 * i) for i in range(3)]
    apex = np.where(rings[2] == 3, 2, rings[2])
    return np.stack([np.zeros_like(apex), *rings, apex])


@pytest.fixture
def npz(tmp_path: Path) -> str:
    stacks = {f"patient{n:03d}_frame{f:02d}": stack(n) for n in range(1, 6) for f in (1, 9)}
    np.savez_compressed(tmp_path / "labels.npz", **stacks)
    return str(tmp_path / "labels.npz")


@pytest.fixture
def folder(tmp_path: Path) -> str:
    for part, numbers in (("training", (1, 2)), ("testing", (101,))):
        for number in numbers:
            name = f"patient{number:03d}"
            (tmp_path / part / name).mkdir(parents=True)
            (tmp_path / part / name / "Info.cfg").write_text("ED: 1\nES: 9\nNbFrame: 12\n")
            for frame in (1, 9):
                labels = nibabel.Nifti1Image(stack(number % 100).T, np.diag([-1.5, -1.5, 10, 1]))
                for end in ("", "_gt"):
                    nibabel.save(labels, tmp_path / part / name / f"{name}_frame{frame:02d}{end}.nii.gz")
    return str(tmp_path)


def test_a_ring_has_its_areas_and_centre() -> None:
    acdc_labels = ring(64, (30, 36), 8, 14)
    labels = np.array([0, 0, 2, 1])[acdc_labels][None]
    ((lv, myo, x, y),) = measure_short_axis(labels, 1.5)
    assert lv == (acdc_labels == 3).sum() * 2.25 and myo == (acdc_labels == 2).sum() * 2.25
    assert lv == pytest.approx(np.pi * 12**2, rel=0.04) and myo == pytest.approx(np.pi * (21**2 - 12**2), rel=0.04)
    assert (x, y) == pytest.approx((4 * 1.5, 30 * 1.5), abs=1e-9)
    assert np.isnan(measure_short_axis(np.where(labels == 1, 2, labels))).all()
    with pytest.raises(ValueError, match=r"shape \(64, 64\) and spacing 1.0; expected \(B, H, W\)"):
        measure_short_axis(labels[0])


def test_slices_with_lv_and_myocardium_are_cropped_around_them(npz: str) -> None:
    data = load_short_axis_slices(npz, size=64, spacing=1.0)
    assert {name: len(split) for name, split in data.items()} == {"train": 24, "test": 6}
    assert not {*data["train"]["subject"]} & {*data["test"]["subject"]}
    arrays = data.with_format("numpy")["train"]
    images = np.stack(arrays["image"])
    assert images.shape == (24, 64, 64) and {*np.unique(images)} == {0, 1, 2}
    areas = [(stack(1)[1 + i] == 3).sum() for i in range(3)]
    assert [*arrays["lv_area"]] == areas * 8
    np.testing.assert_allclose(np.stack([arrays[name][:] for name in NAMES], axis=1), measure_short_axis(images))
    centres = np.stack([arrays["epi_x"][:], arrays["epi_y"][:] - 32], axis=1)
    assert 1 < centres.std() < 8 and np.abs(centres).max() < 12


def test_the_split_depends_on_the_seed(npz: str) -> None:
    tests = [{*load_short_axis_slices(npz, size=64, spacing=1.0, seed=seed)["test"]["subject"]} for seed in range(5)]
    assert len({frozenset(each) for each in tests}) > 1 and all(len(each) == 1 for each in tests)


def test_a_folder_has_its_own_split_and_pixel_size(folder: str) -> None:
    assert is_short_axis_dataset(folder)
    data = load_short_axis_slices(folder, size=64, spacing=1.5).with_format("numpy")
    assert {*data["train"]["subject"]} == {"patient001", "patient002"} and {*data["test"]["subject"]} == {"patient101"}
    areas = [(stack(1)[1 + i] == 3).sum() * 1.5**2 for i in range(3)]
    assert [*data["test"]["lv_area"]] == pytest.approx(areas * 2)
    coarse = load_short_axis_slices(folder, size=64, spacing=2.0).with_format("numpy")
    assert [*coarse["test"]["lv_area"]] == pytest.approx(areas * 2, rel=0.15)
    volume = next(load_short_axis_volumes(folder, "test", test_fraction=0.2, seed=0))
    np.testing.assert_array_equal(volume.labels, np.array([0, 0, 2, 1])[stack(1)])


def test_slices_that_do_not_fit_are_left_out(npz: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        data = load_short_axis_slices(npz, size=48, spacing=1.0)
    assert 0 < len(data["train"]) <= 24
    with pytest.raises(ValueError, match="no slice that shows the LV and the myocardium within 16 pixels of 1 mm"):
        load_short_axis_slices(npz, size=16, spacing=1.0)
    assert "slices are left out, as the ventricle does not fit into 16 pixels of 1 mm" in caplog.text


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "holds nothing; expected only label stacks"),
        ({"image": np.zeros((2, 3, 4))}, "holds image; expected only label stacks"),
        ({"patient001_frame01": np.zeros((3, 4), np.uint8)}, r"shape \(3, 4\); expected a label stack"),
        ({"patient001_frame01": np.full((2, 3, 4), 7)}, "labels from 7 to 7; expected them from 0 to 3"),
        ({"patient001_frame01": np.full((2, 3, 4), 0.5)}, "voxels that are not labels, such as 0.5"),
        ({"patient001_frame01": np.array([{}])}, "patient001_frame01: cannot be read; expected an array of integers"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    path = tmp_path / "labels.npz"
    np.savez(path, **arrays, **({f"patient00{n}_frame01": stack(n) for n in (2, 3)} if len(arrays) else {}))
    with pytest.raises(ValueError, match=message):
        for split in ("train", "test"):
            list(load_short_axis_volumes(str(path), split, test_fraction=0.2, seed=0))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "labels.npz").write_bytes(b"PK broken")
    with pytest.raises(ValueError, match=r"labels.npz cannot be read as .npz; expected arrays as `numpy.savez`"):
        load_attribute_images(str(tmp_path / "labels.npz"), attributes=NAMES, measure="short_axis")


def test_an_absent_file_is_not_looked_for_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"labels.npz: no such file; expected an .npz file of label stacks"):
        load_attribute_images(str(tmp_path / "labels.npz"), attributes=NAMES, measure="short_axis")


def test_slices_are_images_with_attributes(npz: str) -> None:
    data = load_attribute_images(npz, attributes=NAMES, measure="short_axis", size=64, spacing=1.0)
    images = AttributeImages(data["train"], NAMES, "image", channels=None)
    assert images.images.shape == (24, 64, 64) and images.attributes.shape == (24, 4)
