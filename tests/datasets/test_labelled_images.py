from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL.Image
import pytest

from meddiffusers.datasets.labelled_images import load_labelled_images
from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE, normalise_to_int16

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
    yield


def write_folder(folder: Path, images: list[PIL.Image.Image], masks: list[PIL.Image.Image]) -> Path:
    """Image pairs in the layout that `datasets` reads."""
    folder.mkdir(parents=True)
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image_file_name", "mask_file_name"])
        for index, (image, mask) in enumerate(zip(images, masks, strict=True)):
            names = f"{index:03}.png", f"{index:03}_mask.png"
            image.save(folder / names[0])
            mask.save(folder / names[1])
            writer.writerow(names)
    return folder


def random_images(count: int, mode: str = "L", top: int = 255) -> tuple[list[PIL.Image.Image], list[PIL.Image.Image]]:
    channels = (3,) if mode == "RGB" else ()
    images = [PIL.Image.fromarray(RNG.integers(1, 256, (8, 12, *channels), np.uint8)) for _ in range(count)]
    masks = [PIL.Image.fromarray(RNG.integers(0, 2, (8, 12), np.uint8) * np.uint8(top)) for _ in range(count)]
    return images, masks


def saved(folder: Path, **columns: list[Any]) -> Path:
    datasets.Dataset.from_dict(columns).save_to_disk(folder)
    return folder


def load(name: Path, **changes: Any) -> datasets.DatasetDict:
    settings: dict[str, Any] = {"size": (8, 12), "modalities": ("t1",), "classes": ("lesion",), **changes}
    return load_labelled_images(name, **settings)


@pytest.mark.slow
def test_a_folder_of_images_is_split_by_its_rows(tmp_path: Path) -> None:
    images, masks = random_images(20)
    folder = write_folder(tmp_path / "set", images, masks)
    data = load(folder)
    assert {name: len(split) for name, split in data.items()} == {"train": 18, "test": 2}
    for split in data.values():
        for row in split.with_format("numpy"):
            index = int(row["subject"].removeprefix("train-"))
            np.testing.assert_array_equal(row["image"], normalise_to_int16(np.asarray(images[index])[None]))
            np.testing.assert_array_equal(row["masks"][0], np.asarray(masks[index]) > 0)
    assert data["test"]["subject"][:] == load(folder)["test"]["subject"][:]
    assert data["test"]["subject"][:] != load(folder, seed=1)["test"]["subject"][:]
    assert list(load(folder, test_fraction=0)) == ["train"]


def test_images_are_stretched_smoothly_and_masks_by_nearest_pixels(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(1, 17, dtype=np.float32), (8, 1))
    labels = np.arange(8 * 16).reshape(8, 16) % 4
    name = saved(tmp_path / "set", image=[ramp.tolist()], mask=[labels.tolist()])
    row = load(name, size=(16, 32), classes=("a", "b", "c"), test_fraction=0)["train"].with_format("numpy")[0]
    np.testing.assert_array_equal(row["masks"][0], labels.repeat(2, axis=0).repeat(2, axis=1))
    centres = np.clip((np.arange(32) + 0.5) / 2 - 0.5, 0, 15) + 1
    low, high = np.percentile(np.tile(centres, 16), (1, 99))
    expected = INTENSITY_SCALE * np.clip((centres - low) / (high - low), 0, 1)
    np.testing.assert_allclose(row["image"][0], np.tile(expected, (16, 1)), atol=1)


@pytest.mark.parametrize("last", [False, True])
def test_arrays_have_their_channels_first_or_last(tmp_path: Path, last: bool) -> None:
    image = RNG.integers(1, 900, (2, 6, 5))
    value = (np.moveaxis(image, 0, -1) if last else image).tolist()
    mask = RNG.integers(0, 3, (6, 5)).tolist()
    name = saved(tmp_path / "set", scan=[value], truth=[mask], subject=["p1"])
    columns = {"image_column": "scan", "mask_column": "truth", "modalities": ("t1", "t2"), "classes": ("a", "b")}
    row = load(name, size=(6, 5), test_fraction=0, **columns)["train"].with_format("numpy")[0]
    np.testing.assert_array_equal(row["image"], normalise_to_int16(image))
    np.testing.assert_array_equal(row["masks"], [mask])
    assert row["subject"] == "p1"


@pytest.mark.slow
def test_colours_are_grey_values_or_channels(tmp_path: Path) -> None:
    images, masks = random_images(2, "RGB", top=1)
    folder = write_folder(tmp_path / "set", images, masks)
    colour = load(folder, test_fraction=0, modalities=("r", "g", "b"))["train"].with_format("numpy")[0]["image"]
    np.testing.assert_array_equal(colour, normalise_to_int16(np.moveaxis(np.asarray(images[0]), -1, 0)))
    with pytest.raises(ValueError, match=r"row 0: an image with colours; expected grey values\. Convert it"):
        load(folder, test_fraction=0)
    grey, _ = random_images(2)
    folder = write_folder(
        tmp_path / "grey", [image.convert("RGB") for image in grey], [m.convert("RGB") for m in masks]
    )
    row = load(folder, test_fraction=0)["train"].with_format("numpy")[0]
    np.testing.assert_array_equal(row["image"], normalise_to_int16(np.asarray(grey[0])[None]))
    np.testing.assert_array_equal(row["masks"][0], np.asarray(masks[0]))
    red = PIL.Image.fromarray(np.stack([np.asarray(masks[0]) * 255] + [np.zeros((8, 12), np.uint8)] * 2, axis=-1))
    with pytest.raises(ValueError, match="row 0: a mask with colours; expected label ids as grey values"):
        load(write_folder(tmp_path / "red", grey, [red, red]), test_fraction=0)


def test_a_folder_is_split_by_its_column_of_patients(tmp_path: Path) -> None:
    images, masks = random_images(12)
    folder = write_folder(tmp_path / "set", images, masks)
    lines = (folder / "metadata.csv").read_text().splitlines()
    rows = [f"{line},{'PatientID' if number < 0 else number // 3}" for number, line in enumerate(lines, -1)]
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    data = load(folder, test_fraction=0.25)
    train, test = ({*split["subject"]} for split in data.values())
    assert (len(train), len(test), train & test) == (3, 1, set())


def test_an_image_named_twice_is_refused(tmp_path: Path) -> None:
    images, masks = random_images(3)
    folder = write_folder(tmp_path / "set", images, masks)
    with (folder / "metadata.csv").open("a") as file:
        file.write("001.png,002_mask.png\n")
    with pytest.raises(ValueError, match=r"set names files more than once: 001\.png; expected one row for each image"):
        load(folder)


def test_masks_of_floats_are_rounded_or_refused(tmp_path: Path) -> None:
    image, mask = RNG.integers(1, 9, (2, 2)).tolist(), [[0.0, 0.9999998], [1.0000001, 2.0]]
    name = saved(tmp_path / "set", image=[image], mask=[mask])
    row = load(name, size=(2, 2), classes=("a", "b"), test_fraction=0)["train"].with_format("numpy")[0]
    np.testing.assert_array_equal(row["masks"], [[[0, 1], [1, 2]]])
    name = saved(tmp_path / "half", image=[image], mask=[[[0.0, 0.5], [1.0, 2.0]]])
    with pytest.raises(ValueError, match=r"row 0: got 1 voxels that are not labels, such as 0\.5"):
        load(name, size=(2, 2), classes=("a", "b"), test_fraction=0)


def test_splits_and_subjects_of_the_set_are_kept(tmp_path: Path) -> None:
    images = RNG.integers(1, 9, (12, 4, 4))
    split = datasets.Dataset.from_dict(
        {
            "image": images.tolist(),
            "mask": np.zeros((12, 4, 4), int).tolist(),
            "subject": [f"p{index // 3}" for index in range(12)],
        }
    )
    split.save_to_disk(tmp_path / "one")
    data = load(tmp_path / "one", size=(4, 4), test_fraction=0.25)
    assert len(data["test"]) == 3
    assert len(set(data["test"]["subject"])) == 1
    datasets.DatasetDict(train=split, validation=split.select([0])).save_to_disk(tmp_path / "two")
    kept = load(tmp_path / "two", size=(4, 4))
    assert {name: len(part) for name, part in kept.items()} == {"train": 12, "validation": 1}


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    image, mask = RNG.integers(1, 9, (4, 4)).tolist(), np.zeros((4, 4), int)
    good = saved(tmp_path / "good", image=[image] * 2, mask=[mask.tolist()] * 2)
    with pytest.raises(ValueError, match=r"good has no column 'seg'; it has image, mask\. Set mask_column"):
        load(good, mask_column="seg")
    with pytest.raises(ValueError, match=r"Split train, row 0: an image of shape \(1, 4, 4\); expected 2 channels"):
        load(good, modalities=("t1", "t2"))
    with pytest.raises(ValueError, match=r"test_fraction=1.0; expected at least 0"):
        load(good, test_fraction=1.0)
    labels = saved(tmp_path / "labels", image=[image], mask=[(mask + np.arange(4)).tolist()])
    with pytest.raises(
        ValueError, match="row 0: a mask with the values 0, 1, 2, 3; expected label ids from 0 to 1, or 0"
    ):
        load(labels)
    small = saved(tmp_path / "small", image=[image], mask=[mask[:3].tolist()])
    with pytest.raises(
        ValueError, match=r"row 0: an image of \(4, 4\) pixels and a mask of \(3, 4\); expected one size"
    ):
        load(small)
    broken = saved(tmp_path / "broken", image=[(np.array(image) * np.nan).tolist()], mask=[mask.tolist()])
    with pytest.raises(ValueError, match="row 0: pixels are NaN or infinite"):
        load(broken)
