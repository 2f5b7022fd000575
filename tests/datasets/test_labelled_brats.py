from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import datasets
import nibabel
import numpy as np
import pytest
from helpers.small_subjects import small_subject

from meddiffusers.data.layouts import write_brats
from meddiffusers.data.scan import Scan
from meddiffusers.data.subject import Subject
from meddiffusers.datasets.labelled_brats import brats_labelled_slices
from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE, TUMOUR_PARTS

NAME = "BraTS20_Training_{:03d}"
LABELS = {"necrosis": 1, "oedema": 2, "enhancing": 4}
LEAVE_OUT = (1, 2)  # of the five slices of a small subject


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Five small subjects with voxels of 1 mm except along the third axis."""
    folder = tmp_path_factory.mktemp("brats") / "MICCAI_BraTS2020_TrainingData"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder.parent / "cache")
        yield write_brats((on_millimetres(number) for number in range(1, 6)), folder)


def on_millimetres(number: int) -> Subject:
    subject, affine = small_subject(number), np.diag([-1.0, -1.0, 1.5, 1.0])
    images = {name: replace(scan, affine=affine) for name, scan in subject.images.items()}
    assert subject.lesions is not None
    return replace(subject, images=images, lesions=replace(subject.lesions, affine=affine))


def upright(scan: Scan) -> np.ndarray:
    """(X, Y, Z) with axes L and P as images (Z, H, W), without `slices`: rows to posterior, columns to the left."""
    return scan.array[0].transpose(2, 1, 0)


@pytest.mark.slow
def test_rows_are_the_voxels_of_the_files(folder: Path) -> None:
    modalities, classes = ("flair", "t1"), ("oedema", "necrosis", "enhancing")
    data = brats_labelled_slices(folder, size=(7, 6), modalities=modalities, classes=classes, leave_out=LEAVE_OUT)
    assert {name: len(split) for name, split in data.items()} == {"train": 8, "test": 2}
    assert not {*data["train"]["subject"]} & {*data["test"]["subject"]}
    for split in data.values():
        rows = split.with_format("numpy")
        for subject_id in set(split["subject"]):
            subject = on_millimetres(int(subject_id[-3:]))
            mine = [row for row in rows if row["subject"] == subject_id]
            assert len(mine) == 2
            lesions = upright(subject.lesions)[1:3]
            for label, part in enumerate(classes, 1):
                masks = np.stack([row["masks"][0] for row in mine])
                np.testing.assert_array_equal(masks == label, lesions == LABELS[part])
            for channel, name in enumerate(modalities):
                whole = upright(subject.images[name]).astype(float)
                low, high = np.percentile(whole[whole != 0], (1, 99))
                expected = INTENSITY_SCALE * np.clip((whole - low) / (high - low), 0, 1)[1:3]
                np.testing.assert_allclose([row["image"][channel] for row in mine], expected, atol=0.51)


@pytest.mark.slow
def test_images_have_the_requested_size_and_spacing(folder: Path) -> None:
    whole = brats_labelled_slices(folder, size=(7, 6), leave_out=(0, 0), classes=("tumour",), test_fraction=0)
    assert list(whole) == ["train"]
    assert len(whole["train"]) == 25
    assert set(np.unique(whole["train"].with_format("numpy")["masks"][:]).tolist()) == {0, 1}
    padded = brats_labelled_slices(folder, size=(9, 10), leave_out=(0, 0), classes=("tumour",), test_fraction=0)
    one, other = (np.stack(data["train"].with_format("numpy")["image"][:]) for data in (whole, padded))
    np.testing.assert_array_equal(other[:, :, 1:-1, 2:-2], one)
    assert not other[:, :, 0].any()
    coarse = brats_labelled_slices(folder, size=(4, 3), spacing=2.0, leave_out=(0, 0), test_fraction=0)
    assert coarse["train"].features["image"].shape == (4, 4, 3)


@pytest.mark.slow
def test_slices_are_cut_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = brats_labelled_slices(folder, size=(5, 5), leave_out=(2, 2))
    monkeypatch.setattr("meddiffusers.datasets.labelled_brats.slices", lambda *_, **__: pytest.fail("cut twice"))
    assert brats_labelled_slices(folder, size=(5, 5), leave_out=(2, 2))["train"][:] == first["train"][:]


def test_subjects_without_a_mask_are_left_out(folder: Path, tmp_path: Path) -> None:
    validation = tmp_path / "MICCAI_BraTS2020_ValidationData" / "BraTS20_Validation_001"
    validation.mkdir(parents=True)
    for path in (folder / NAME.format(1)).glob("*"):
        if not path.name.endswith("seg.nii.gz"):
            name = path.name.replace("Training", "Validation")
            nibabel.save(nibabel.load(path), validation / name)
    with pytest.raises(ValueError, match=r"ValidationData has no subject with a mask; expected training data"):
        brats_labelled_slices(validation.parent, size=(7, 6), leave_out=LEAVE_OUT, test_fraction=0)
    (validation.parent / NAME.format(1)).symlink_to(folder / NAME.format(1))
    data = brats_labelled_slices(validation.parent, size=(7, 6), leave_out=LEAVE_OUT, test_fraction=0)
    assert set(data["train"]["subject"]) == {NAME.format(1)}


@pytest.mark.slow
def test_enhancing_tumour_is_3_since_2023(folder: Path, tmp_path: Path) -> None:
    new = {"t1": "t1n", "t1ce": "t1c", "t2": "t2w", "flair": "t2f", "seg": "seg"}
    for number in (1, 2):
        case = tmp_path / f"BraTS-GLI-{number:05d}-000"
        case.mkdir()
        for old, ending in new.items():
            image = nibabel.load(folder / NAME.format(number) / f"{NAME.format(number)}_{old}.nii.gz")
            voxels = np.asarray(image.dataobj)
            voxels = np.where(voxels == 4, 3, voxels).astype(voxels.dtype) if old == "seg" else voxels
            nibabel.save(nibabel.Nifti1Image(voxels, image.affine), case / f"{case.name}-{ending}.nii.gz")
    settings = {"size": (7, 6), "leave_out": (0, 0), "test_fraction": 0}
    masks = brats_labelled_slices(tmp_path, **settings)["train"].with_format("numpy")["masks"][:]
    older = brats_labelled_slices(folder, **settings)["train"]
    numbers = [index for index, subject in enumerate(older["subject"]) if subject in map(NAME.format, (1, 2))]
    np.testing.assert_array_equal(masks, older.select(numbers).with_format("numpy")["masks"][:])
    assert (masks == 3).any()


def test_what_makes_no_sense_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"Got the modalities \['t1', 'pd'\]; expected different ones of t1, t1ce"):
        brats_labelled_slices(folder, size=(7, 6), modalities=("t1", "pd"))
    with pytest.raises(ValueError, match="Got the classes 'tissue'; expected"):
        brats_labelled_slices(folder, size=(7, 6), classes=("tissue",))
    with pytest.raises(ValueError, match=r"leave_out=\(80, 26\) of 5 axial slices; expected to leave at least one"):
        brats_labelled_slices(folder, size=(7, 6))
    assert tuple(LABELS) == TUMOUR_PARTS
