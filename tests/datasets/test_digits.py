from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
import pytest

from meddiffusers.datasets import digits as module
from meddiffusers.datasets.digit_attributes import DIGIT_ATTRIBUTES, measure_digits
from meddiffusers.datasets.digits import add_measurements, digits
from meddiffusers.utils.optional import optional_import

pytestmark = pytest.mark.slow  # the digits are built anew


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("datasets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
        yield folder


@pytest.fixture(scope="module")
def built(cache: Path) -> datasets.DatasetDict:
    return digits()


def pixels(split: datasets.Dataset) -> np.ndarray:
    return np.stack([np.asarray(image) for image in split["image"]])


def test_splits_are_complete_and_stratified(built: datasets.DatasetDict) -> None:
    for name, per_class in (("train", 400), ("test", 100)):
        np.testing.assert_array_equal(np.bincount(built[name]["label"]), [per_class] * 10)


def test_splits_share_no_digit(built: datasets.DatasetDict) -> None:
    train, test = ({image.tobytes() for image in pixels(built[name])} for name in ("train", "test"))
    assert len(train | test) == 5000
    assert not train & test


@pytest.mark.slow
def test_columns(built: datasets.DatasetDict) -> None:
    test = built["test"]
    assert test.column_names == ["image", "label", *DIGIT_ATTRIBUTES]
    assert (test[0]["image"].mode, test[0]["image"].size) == ("L", (28, 28))
    assert all(test.features[name] == datasets.Value("float64") for name in DIGIT_ATTRIBUTES)
    columns = np.stack([test[name] for name in DIGIT_ATTRIBUTES], axis=1)
    np.testing.assert_array_equal(columns, measure_digits(pixels(test)))


def test_the_label_is_that_of_the_image(built: datasets.DatasetDict) -> None:
    images, labels = pixels(built["train"]), np.array(built["train"]["label"])
    mean = np.stack([images[labels == label].mean(axis=0) for label in range(10)])
    held_out = pixels(built["test"]).reshape(1000, -1).astype(float)
    nearest = ((held_out[:, None] - mean.reshape(10, -1)) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == np.array(built["test"]["label"])).mean() > 0.75  # what class means reach; chance is 0.1


def test_second_call_reads_the_cache(built: datasets.DatasetDict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_build", lambda seed: pytest.fail("built again"))
    again = digits()
    for name in ("train", "test"):
        assert again[name].data.table.equals(built[name].data.table)


def test_a_build_depends_on_the_seed_alone(built: datasets.DatasetDict) -> None:
    labels = np.repeat(np.arange(10), 500)
    np.testing.assert_array_equal(module._select_test(labels, 0), module._select_test(labels, 0))
    assert set(module._select_test(labels, 0)) != set(module._select_test(labels, 1))


def test_the_faster_of_two_processes_wins(
    built: datasets.DatasetDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (built["test"].select(rows) for rows in ([0], [1]))
    folder = tmp_path / f"meddiffusers-digits-v{module.VERSION}-seed0"

    def build(seed: int) -> datasets.DatasetDict:
        datasets.DatasetDict(test=first).save_to_disk(folder)  # the other process
        return datasets.DatasetDict(test=second)

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr(module, "_build", build)
    assert digits()["test"]["area"][:] == first["area"][:]
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_measurements_are_added_in_row_order() -> None:
    images = np.arange(5, dtype=np.uint8)[:, None, None] * np.ones((5, 4, 4), np.uint8)
    features = datasets.Features(scan=datasets.Image(mode="L"))
    data = datasets.Dataset.from_dict({"scan": list(images)}, features=features)
    grown = add_measurements(data, lambda x: np.stack([x.mean((1, 2)), x.sum((1, 2))], axis=1), ["mean", "sum"], "scan")
    assert grown["mean"][:] == [0, 1, 2, 3, 4]
    assert grown["sum"][:] == [0, 16, 32, 48, 64]


def test_absent_extra_is_named() -> None:
    message = r'no_such_package.data is not installed; .*pip install "meddiffusers\[digits\]"'
    with pytest.raises(ImportError, match=message):
        optional_import("no_such_package.data", "digits")
    assert optional_import("json.decoder", "digits").__name__ == "json.decoder"
