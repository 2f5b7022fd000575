from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import pytest
from helpers.rows import all_of
from PIL import Image

from meddiffusers.datasets.public import DatasetError, mednist
from meddiffusers.datasets.public.mednist import CLASSES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten images of each class, grey by class and number."""
    for index, label in enumerate(CLASSES):
        (tmp_path / "MedNIST" / label).mkdir(parents=True)
        for number in range(10):
            grey = Image.new("L", (64, 64), 40 * index + number)
            grey.save(tmp_path / "MedNIST" / label / f"{number:06d}.jpeg", quality=95)
    return tmp_path / "MedNIST"


def test_images_carry_their_class(folder: Path) -> None:
    data = mednist(folder.parent)
    assert data["test"].features["label"] == datasets.ClassLabel(names=list(CLASSES))
    assert CLASSES == ("AbdomenCT", "BreastMRI", "ChestCT", "CXR", "Hand", "HeadCT")
    greys = []
    for split in data.values():
        for row in split:
            assert (row["image"].mode, row["image"].size) == ("L", (64, 64))
            grey = round(np.asarray(row["image"]).mean())
            assert grey // 40 == row["label"]
            greys.append(grey)
    assert sorted(greys) == [40 * index + number for index in range(6) for number in range(10)]


def test_the_split_is_stratified_and_seeded(folder: Path) -> None:
    data = mednist(folder, test_fraction=0.3)
    np.testing.assert_array_equal(np.bincount(data["train"]["label"]), [7] * 6)
    np.testing.assert_array_equal(np.bincount(data["test"]["label"]), [3] * 6)

    def test_files(seed: int) -> list[str]:
        images = mednist(folder, seed=seed)["test"].cast_column("image", datasets.Image(decode=False))["image"]
        return [image["path"] for image in images]

    assert test_files(0) == test_files(0)
    assert test_files(0) != test_files(1)


def test_issues_are_reported_together(folder: Path) -> None:
    cut = folder / "Hand" / "000003.jpeg"
    cut.write_bytes(cut.read_bytes()[:-20])
    (folder / "CXR" / "000001.jpeg").write_bytes(b"no image")
    Image.new("L", (32, 64)).save(folder / "ChestCT" / "000000.jpeg")
    for file in (folder / "HeadCT").iterdir():
        file.unlink()
    with pytest.raises(DatasetError, match="has 4 issues") as caught:
        mednist(folder)
    assert [str(issue) for issue in caught.value.issues] == [
        "HeadCT: no images; expected HeadCT/000000.jpeg and others",
        "ChestCT/000000.jpeg: (32, 64) pixels; expected (64, 64)",
        "CXR/000001.jpeg: cannot be opened (UnidentifiedImageError); expected a JPEG: download it again",
        "Hand/000003.jpeg: cut short; expected a whole JPEG: download it again",
    ]
    labels = all_of(mednist(folder, skip_invalid=True), "label")
    np.testing.assert_array_equal(np.bincount(labels, minlength=6), [10, 10, 9, 9, 9, 0])


def test_another_layout_is_refused_with_an_example(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="layout of MedNIST; expected files such as AbdomenCT/000000"):
        mednist(tmp_path)
