from __future__ import annotations

from collections.abc import Iterator

import datasets
import numpy as np
import pytest

from meddiffusers.data.phantoms.brain.template import template
from meddiffusers.datasets.labelled_slices import (
    INTENSITY_SCALE,
    label_ids,
    labelled_rows,
    normalise_to_int16,
    phantom_labelled_slices,
    row_features,
)
from meddiffusers.datasets.phantom_slices import phantom_slices

PARTS = ("oedema", "enhancing", "necrosis")
SETTINGS = {"seed": 5, "size": 48, "per_subject": 2, "modalities": ("t1", "flair")}
SHARES: dict[str | None, float] = {"tumour": 0.6, "cavity": 0.4}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    template()  # from the cache of this machine, before it is replaced
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


@pytest.fixture(scope="module")
def slices(cache: None) -> datasets.Dataset:
    return phantom_slices(8, shares=SHARES, **SETTINGS)


def phantom_row(lesions: np.ndarray, raters: np.ndarray, lesion: str = "tumour") -> datasets.Dataset:
    """One row of `phantom_slices` with the given lesion and segmentations."""
    height, width = lesions.shape
    features = {
        "image": datasets.Array3D((1, height, width), "int16"),
        "lesions": datasets.Array2D((height, width), "uint8"),
        "raters": datasets.Array3D((5, height, width), "uint8"),
        "subject": datasets.Value("string"),
        "lesion": datasets.Value("string"),
        "difficulty": datasets.Value("float32"),
        "height": datasets.Value("float32"),
    }
    values = [np.arange(height * width).reshape(1, height, width), lesions, raters, "0-0", lesion, 0.5, 3.0]
    return datasets.Dataset.from_dict(
        {name: [value] for name, value in zip(features, values, strict=True)}, features=datasets.Features(features)
    )


def nearest(marks: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The squared distance to the nearest tumour of each label, pixel by pixel: (K - 1, H, W)."""
    place = np.argwhere(np.ones_like(marks))
    return np.stack(
        [
            ((place[:, None] - np.argwhere(reference == label)) ** 2).sum(axis=-1).min(axis=1, initial=10**6)
            for label in range(1, 4)
        ]
    ).reshape(3, *marks.shape)


@pytest.mark.slow
def test_raters_have_the_label_of_the_nearest_reference(slices: datasets.Dataset) -> None:
    rows = labelled_rows(slices, PARTS).with_format("numpy")
    tumours = 0
    for row, origin in zip(rows, slices.with_format("numpy"), strict=True):
        if row["lesion"] != "tumour":
            assert not row["masks"].any() and not row["reference"].any()
            continue
        tumours += 1
        np.testing.assert_array_equal(row["masks"] > 0, origin["raters"] > 0)
        for part, label in (("oedema", 2), ("enhancing", 4), ("necrosis", 1)):
            np.testing.assert_array_equal(row["reference"] == PARTS.index(part) + 1, origin["lesions"] == label)
        if row["reference"].any():
            for mask in row["masks"]:
                distances = nearest(mask, row["reference"])
                given = np.take_along_axis(distances, np.maximum(mask, 1)[None].astype(int) - 1, axis=0)[0]
                np.testing.assert_array_equal(given[mask > 0], distances.min(axis=0)[mask > 0])
    assert 2 <= tumours < len(slices)


def test_a_small_tumour_by_hand() -> None:
    lesions, raters = np.zeros((3, 6), np.uint8), np.zeros((5, 3, 6), np.uint8)
    lesions[1, 1:4] = 1, 4, 2
    raters[0, 1, 0:6] = 1  # beyond the reference on both sides
    raters[1, 0, 2] = 1  # beside it
    raters[2, 1, 3] = 1
    row = labelled_rows(phantom_row(lesions, raters), ("necrosis", "oedema", "enhancing")).with_format("numpy")[0]
    np.testing.assert_array_equal(row["reference"][1], [0, 1, 3, 2, 0, 0])
    np.testing.assert_array_equal(row["masks"][0, 1], [1, 1, 3, 2, 2, 2])
    assert row["masks"][1, 0, 2] == 3
    assert row["masks"][2].sum() == 2
    assert not row["masks"][3:].any()
    binary = labelled_rows(phantom_row(lesions, raters), ("tumour",)).with_format("numpy")[0]
    np.testing.assert_array_equal(binary["masks"], raters)
    np.testing.assert_array_equal(binary["reference"], lesions > 0)


def test_outlines_beside_an_empty_reference_are_oedema() -> None:
    raters = np.zeros((5, 3, 6), np.uint8)
    raters[1, 1, 2:4] = 1
    empty = np.zeros((3, 6), np.uint8)
    for classes, label in ((PARTS, 1), (("necrosis", "enhancing", "oedema"), 3), (("tumour",), 1)):
        row = labelled_rows(phantom_row(empty, raters), classes).with_format("numpy")[0]
        np.testing.assert_array_equal(row["masks"], label * raters)


def test_only_tumours_count() -> None:
    lesions, raters = np.full((3, 6), 5, np.uint8), np.ones((5, 3, 6), np.uint8)
    row = labelled_rows(phantom_row(lesions, raters, "white_matter_lesions"), PARTS).with_format("numpy")[0]
    assert not row["masks"].any()
    np.testing.assert_array_equal(label_ids(np.array([0, 1, 2, 4, 5, 6]), PARTS), [0, 3, 1, 2, 0, 0])
    np.testing.assert_array_equal(label_ids(np.array([0, 1, 2, 4, 5, 6]), ("tumour",)), [0, 1, 1, 1, 0, 0])


def test_intensities_are_percentiles_of_the_foreground(slices: datasets.Dataset) -> None:
    rows = labelled_rows(slices, PARTS).with_format("numpy")
    for row, origin in zip(rows, slices.with_format("numpy"), strict=True):
        for image, before in zip(row["image"], origin["image"].astype(float), strict=True):
            low, high = np.percentile(before[before != 0], (1, 99))
            expected = INTENSITY_SCALE * np.clip((before - low) / (high - low), 0, 1)
            np.testing.assert_allclose(image, expected, atol=0.51)


def test_channels_without_contrast_are_black() -> None:
    image = np.stack([np.zeros((4, 4)), np.eye(4) * 7, np.arange(16).reshape(4, 4)]).astype(np.int16)
    values = normalise_to_int16(image)
    assert values.dtype == np.int16
    assert not values[:2].any()
    assert values[2].max() == INTENSITY_SCALE
    with pytest.raises(ValueError, match="pixels are NaN or infinite; expected finite ones"):
        normalise_to_int16(np.where(image > 5, np.nan, image))


def test_rows_are_built_from_a_seed(slices: datasets.Dataset) -> None:
    rows = phantom_labelled_slices(8, classes=PARTS, shares=SHARES, **SETTINGS)
    assert rows.column_names == ["image", "masks", "subject", "reference", "lesion", "difficulty", "height"]
    assert all(rows.features[name] == kind for name, kind in row_features(2, 5, (48, 48)).items())
    assert rows["subject"][:] == slices["subject"][:]
    assert rows[:] == labelled_rows(slices, PARTS)[:]


@pytest.mark.parametrize("classes", [(), ("necrosis", "oedema"), ("tumour", "oedema"), ("oedema",) * 3])
def test_other_classes_are_refused(classes: tuple[str, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"Got the classes .*; expected 'necrosis', 'oedema', 'enhancing' in the order"
    ):
        phantom_labelled_slices(4, classes=classes)


def test_any_lesion_is_whatever_is_not_healthy(slices: datasets.Dataset) -> None:
    rows = labelled_rows(slices, ("lesion",)).with_format("numpy")[:]
    drawn_lesions = slices.with_format("numpy")[:]
    assert set(rows["lesion"]) == {"tumour", "cavity"}
    for lesion, masks, reference, truth, raters in zip(
        rows["lesion"], rows["masks"], rows["reference"], drawn_lesions["lesions"], drawn_lesions["raters"], strict=True
    ):
        assert np.array_equal(reference, truth > 0), lesion
        assert np.array_equal(masks, raters > 0), lesion
