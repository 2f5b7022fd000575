"""Sources of labelled slices: phantoms, BraTS, any folder; and how they are read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from helpers.small_subjects import small_subject

from meddiffusers.data.layouts import write_brats
from meddiffusers.data.phantoms.brain.template import template
from meddiffusers.data.subject import Subject
from meddiffusers.datasets import labelled_config as segmentation_data
from meddiffusers.datasets.labelled_config import (
    HARD,
    PHANTOM_HEIGHTS,
    PHANTOM_SHARES,
    PHANTOM_SKULL,
    LabelledDataConfig,
    LabelledImages,
    data_source,
    load_labelled_data,
    load_test_split,
)
from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE, phantom_labelled_slices, row_features
from meddiffusers.training.engine.parsing import parse_config

PHANTOMS = {"phantom_slices": 4, "phantom_test_slices": 2, "resolution": 32}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    template()  # from the cache of this machine, before it is replaced
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


def rows_of(count: int, channels: int = 2, raters: int = 3) -> datasets.Dataset:
    """Random labelled slices."""
    rng = np.random.default_rng(0)
    columns = {
        "image": list(rng.integers(0, INTENSITY_SCALE + 1, (count, channels, 4, 6)).astype(np.int16)),
        "masks": list(rng.integers(0, 4, (count, raters, 4, 6)).astype(np.uint8)),
        "subject": [f"s{index}" for index in range(count)],
    }
    return datasets.Dataset.from_dict(columns, features=datasets.Features(row_features(channels, raters, (4, 6))))


def saved(folder: Path, **splits: int) -> Path:
    """A data set with splits of the given sizes, (8, 8) in one channel with masks of 0 and 1."""
    rng = np.random.default_rng(1)

    def split(count: int) -> datasets.Dataset:
        images, masks = rng.integers(1, 200, (count, 8, 8)), rng.integers(0, 2, (count, 8, 8))
        return datasets.Dataset.from_dict({"image": images.tolist(), "mask": masks.tolist()})

    datasets.DatasetDict({name: split(count) for name, count in splits.items()}).save_to_disk(folder)
    return folder


def config_of(folder: Path, **changes: Any) -> LabelledDataConfig:
    settings: dict[str, Any] = {"modalities": ["grey"], "classes": ["lesion"], "resolution": 8, **changes}
    return LabelledDataConfig(dataset_name=str(folder), **settings)


def test_the_defaults_are_those_of_the_command_line() -> None:
    (parsed,) = parse_config(LabelledDataConfig, argv=[])
    assert parsed == LabelledDataConfig()
    assert (parsed.dataset_name, parsed.classes, parsed.spacing) == ("phantom", ["tumour"], None)
    assert parsed.modalities == ["t1", "t1ce", "t2", "flair"]
    assert parsed.modalities is not LabelledDataConfig().modalities
    (parsed,) = parse_config(LabelledDataConfig, argv=["--classes", "a", "b", "--spacing", "1.5"])
    assert parsed.classes == ["a", "b"] and parsed.spacing == 1.5


def test_images_are_fractions_and_masks_label_ids() -> None:
    rows = rows_of(5)
    images = LabelledImages(rows)
    assert len(images) == 5
    for index in range(5):
        item = images[index]
        assert (item["image"].dtype, item["masks"].dtype) == (torch.float32, torch.uint8)
        stored = np.array(rows[index]["image"], np.float64)
        np.testing.assert_allclose(item["image"], stored / INTENSITY_SCALE, atol=1e-7)
        np.testing.assert_array_equal(item["masks"], rows[index]["masks"])
        assert item["image"].min() >= 0 and item["image"].max() <= 1


def test_many_at_once_are_each_alone() -> None:
    images = LabelledImages(rows_of(5))
    indices = [3, 0, 3, 4]
    for item, index in zip(images.__getitems__(indices), indices, strict=True):
        assert item.keys() == {"image", "masks"}
        assert all(torch.equal(item[name], images[index][name]) for name in item)


def test_images_with_foreground_are_shown_more_often() -> None:
    rows = rows_of(10)
    empty = [0, 2, 3, 5, 6, 7, 9]
    rows = rows.map(
        lambda row, index: {"masks": np.array(row["masks"], np.uint8) * (index not in empty)},
        with_indices=True,
        features=rows.features,
        keep_in_memory=True,
    )
    images = LabelledImages(rows, foreground_share=0.7)
    assert len(images) == 23  # 7 without are 0.3 of it
    once = [item["image"] for item in LabelledImages(rows).__getitems__(list(range(10)))]
    items = images.__getitems__(list(range(23)))
    shown = [index for item in items for index in range(10) if torch.equal(item["image"], once[index])]
    counts = np.bincount(shown)
    assert (counts[empty] == 1).all()
    assert sorted(counts[[1, 4, 8]]) == [5, 5, 6]
    assert len(LabelledImages(rows, foreground_share=0.2)) == 10  # they are 0.3 as they come
    assert len(LabelledImages(rows.select(empty), foreground_share=0.5)) == 7


@pytest.mark.slow
def test_phantoms_of_two_populations() -> None:
    config = LabelledDataConfig(
        modalities=["t1", "flair"], classes=["oedema", "necrosis", "enhancing"], phantom_seed=5, **PHANTOMS
    )
    data = load_labelled_data(config)
    assert {name: len(split) for name, split in data.items()} == {"train": 4, "test": 2}
    assert data["train"].features["image"].shape == (2, 32, 32)
    assert data["train"].features["masks"].shape == (5, 32, 32)
    assert load_test_split(config)[:] == data["test"][:]
    settings: dict[str, Any] = {
        "size": 32,
        "modalities": ("t1", "flair"),
        "classes": ("oedema", "necrosis", "enhancing"),
        "per_subject": 2,
        "shares": PHANTOM_SHARES,
        "heights": PHANTOM_HEIGHTS,
        "skull": PHANTOM_SKULL,
    }
    assert phantom_labelled_slices(4, 5, **settings)[:] == data["train"][:]
    assert phantom_labelled_slices(2, 6, difficulty=HARD, **settings)[:] == data["test"][:]
    plain = load_test_split(replace(config, phantom_test_difficulty=[0.0, 0.1]))
    assert phantom_labelled_slices(2, 6, difficulty=(0.0, 0.1), **settings)[:] == plain[:]
    assert sum(PHANTOM_SHARES.values()) == pytest.approx(1)


def test_a_folder_of_images_and_masks(tmp_path: Path) -> None:
    folder = saved(tmp_path / "set", train=20)
    data = load_labelled_data(config_of(folder))
    assert {name: len(split) for name, split in data.items()} == {"train": 18, "test": 2}
    item = LabelledImages(data["train"])[0]
    assert item["image"].shape == (1, 8, 8) and item["masks"].shape == (1, 8, 8)
    assert load_test_split(config_of(folder))["subject"][:] == data["test"]["subject"][:]
    columns = datasets.load_from_disk(folder)["train"].rename_columns({"image": "scan", "mask": "truth"})
    columns.save_to_disk(tmp_path / "renamed")
    renamed = load_labelled_data(config_of(tmp_path / "renamed", image_column="scan", mask_column="truth"))
    assert renamed["test"][:] == data["test"][:]


def test_the_validation_split_is_tested_on_where_there_is_no_test_split(tmp_path: Path) -> None:
    both = load_labelled_data(config_of(saved(tmp_path / "both", train=4, validation=2, test=3)))
    assert len(both["test"]) == 3
    validation = load_labelled_data(config_of(saved(tmp_path / "validation", train=4, validation=2)))
    assert list(validation) == ["train", "test"] and len(validation["test"]) == 2


@pytest.mark.parametrize(("limit", "expected"), [(3, 3), (50, 6), (None, 6)])
def test_the_first_samples_only(tmp_path: Path, limit: int | None, expected: int) -> None:
    data = load_labelled_data(config_of(saved(tmp_path / "set", train=6, test=2), max_train_samples=limit))
    assert len(data["train"]) == expected
    assert data["train"]["subject"][:] == [f"train-{index}" for index in range(expected)]
    assert len(data["test"]) == 2


def on_millimetres(number: int) -> Subject:
    """A small subject with axial pixels of 1 mm."""
    subject, affine = small_subject(number), np.diag([-1.0, -1.0, 1.5, 1.0])
    images = {name: replace(scan, affine=affine) for name, scan in subject.images.items()}
    assert subject.lesions is not None
    return replace(subject, images=images, lesions=replace(subject.lesions, affine=affine))


def test_a_folder_of_brats_is_recognized_in_every_year(tmp_path: Path) -> None:
    for case in ("Brats18_TCIA01_101_1", "BraTS20_Training_001", "BraTS2021_00000", "BraTS-GLI-00000-000"):
        (tmp_path / case / "data" / case).mkdir(parents=True)
        found = {"dataset_name": "brats", "train_data_dir": str(tmp_path / case)}
        assert data_source(str(tmp_path / case)) == found
    (tmp_path / "mine" / "p1").mkdir(parents=True)
    assert data_source(str(tmp_path / "mine")) == {"dataset_name": str(tmp_path / "mine")}


def test_brats_is_read_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "MICCAI_BraTS2020_TrainingData"
    write_brats((on_millimetres(number) for number in range(1, 6)), folder)
    given: dict[str, Any] = {}
    read = segmentation_data.brats_labelled_slices

    def recorded(*arguments: Any, **options: Any) -> datasets.DatasetDict:
        given.update(options)
        return read(*arguments, **options, leave_out=(1, 2))  # of the five slices of a small subject

    monkeypatch.setattr(segmentation_data, "brats_labelled_slices", recorded)
    config = LabelledDataConfig(
        "brats", train_data_dir=str(folder), modalities=["flair", "t1", "t2"], resolution=6, spacing=1.0
    )
    data = load_labelled_data(config)
    assert (given["size"], given["spacing"]) == ((6, 6), 1.0)
    assert {name: len(split) for name, split in data.items()} == {"train": 8, "test": 2}
    assert data["train"].features["image"].shape == (3, 6, 6)


class TestWhatCannotBeIsRefused:
    @pytest.mark.parametrize("wrong", [[0.5], [0.6, 0.5], [-0.1, 1.0], [0.0, 1.1]])
    def test_difficulties_that_no_lesion_has(self, wrong: list[float]) -> None:
        with pytest.raises(ValueError, match=re.escape(f"phantom_test_difficulty={wrong}; expected two numbers")):
            LabelledDataConfig(phantom_test_difficulty=wrong)

    @pytest.mark.parametrize("given", [{}, {"spacing": 1.0}, {"train_data_dir": "here"}])
    def test_brats_without_a_folder_or_a_spacing(self, given: dict[str, Any]) -> None:
        config = LabelledDataConfig("brats", **given)
        message = r"brats needs its folder and the size of a pixel; got train_data_dir=.* --spacing MM\."
        with pytest.raises(ValueError, match=message):
            load_labelled_data(config)
        with pytest.raises(ValueError, match=message):
            load_test_split(config)

    def test_a_set_without_images_to_test_on(self, tmp_path: Path) -> None:
        config = config_of(saved(tmp_path / "set", train=2, extra=2))
        for load in (load_labelled_data, load_test_split):
            with pytest.raises(ValueError, match="set has the splits train, extra; expected a test or a validation"):
                load(config)

    def test_a_set_without_images_to_train_on(self, tmp_path: Path) -> None:
        config = config_of(saved(tmp_path / "set", validation=2, test=2))
        with pytest.raises(ValueError, match="set has the splits validation, test; expected train and a test split"):
            load_labelled_data(config)
        assert len(load_test_split(config)) == 2
