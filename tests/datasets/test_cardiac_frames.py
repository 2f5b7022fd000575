"""Cardiac sequences of the phantom and of CAMUS folders, and the training frames of the VAE."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from meddiffusers.data.io import read, write
from meddiffusers.data.layouts.camus import write_camus
from meddiffusers.data.phantoms.cardiac import CardiacPhantom
from meddiffusers.datasets.attribute_images import AttributeImages, load_attribute_images
from meddiffusers.datasets.cardiac_frames import jitter_borders, load_cardiac_frames
from meddiffusers.datasets.cardiac_sequences import FIRST_SEED, is_cardiac_dataset, load_cardiac_sequences
from meddiffusers.pipelines.meddiffusers_cardiac_attributes_v1 import CARDIAC_ATTRIBUTES, measure_cardiac_attributes
from meddiffusers.pipelines.meddiffusers_cardiac_masks_v1 import signed_distance

NAMES = list(CARDIAC_ATTRIBUTES)


@pytest.fixture(scope="module")
def camus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_camus([1, 2, 3], tmp_path_factory.mktemp("camus") / "set", frames=9)


def test_phantoms_have_two_views_and_splits_share_no_patient() -> None:
    sequences = list(load_cardiac_sequences("cardiac_phantom", "test", 3, frames=5))
    assert [(each.subject, each.view) for each in sequences] == [
        ("100000", "4CH"),
        ("100000", "2CH"),
        ("100001", "4CH"),
    ]
    phantom = CardiacPhantom(100_000, "2CH")
    np.testing.assert_array_equal(sequences[1].labels, phantom.labels(phantom.phases(5)))
    assert sequences[1].cyclic and sequences[1].ejection_fraction == phantom.ejection_fraction
    assert len({*FIRST_SEED.values()}) == len(FIRST_SEED) and min(np.diff(sorted(FIRST_SEED.values()))) >= 100_000


@pytest.mark.slow
def test_a_camus_folder_gives_the_same_sequences(camus_folder: Path) -> None:
    sequences = [
        each for split in ("train", "validation", "test") for each in load_cardiac_sequences(str(camus_folder), split)
    ]
    assert {each.subject for each in sequences} == {"patient001", "patient002", "patient003"} and len(sequences) == 6
    everything = list(load_cardiac_sequences(str(camus_folder), "all"))
    assert sorted((each.subject, each.view) for each in sequences) == [(each.subject, each.view) for each in everything]
    for each in sequences:
        phantom = CardiacPhantom(int(each.subject[-3:]), each.view)
        np.testing.assert_array_equal(each.labels, phantom.labels(phantom.phases(9)))
        assert each.spacing == pytest.approx((1.25, 1.25)) and each.cyclic


@pytest.mark.slow
def test_half_a_cycle_is_not_cyclic(tmp_path: Path) -> None:
    folder = write_camus([5, 6, 7], tmp_path / "half", frames=5, half_cycle=True)
    assert not any(each.cyclic for each in load_cardiac_sequences(str(folder), "train"))


def test_cardiac_datasets_are_recognized(camus_folder: Path, tmp_path: Path) -> None:
    assert is_cardiac_dataset("cardiac_phantom") and is_cardiac_dataset(str(camus_folder))
    assert not is_cardiac_dataset("digits") and not is_cardiac_dataset(str(tmp_path))
    with pytest.raises(ValueError, match="expected one of train, test, reference, unseen, and a count"):
        list(load_cardiac_sequences("cardiac_phantom", "validation", 3))
    with pytest.raises(ValueError, match="has no split 'unseen'"):
        list(load_cardiac_sequences(str(camus_folder), "unseen"))


def test_attributes_are_those_of_the_cropped_frames() -> None:
    data = load_cardiac_frames("cardiac_phantom", size=112, spacing=1.25, sequences=10)
    train, test = (data[name].with_format("numpy") for name in ("train", "test"))
    assert len(train) == 70 and len(test) == 7 and train["image"][0].shape == (112, 112)
    assert not {*train["subject"]} & {*test["subject"]}
    images = np.stack(train["image"])
    measured = measure_cardiac_attributes(images, 1.25)
    np.testing.assert_allclose(np.stack([train[name] for name in NAMES], axis=1), measured)
    assert {*np.unique(images)} == {0, 1, 2} and np.isfinite(measured).all()
    centres = np.array([np.argwhere(image > 0).mean(axis=0) for image in images])
    assert 0.5 < centres.std() < 12 and np.abs(centres.mean(axis=0) - 55.5).max() < 6


@pytest.mark.slow
def test_a_changed_label_map_is_read_again(tmp_path: Path) -> None:
    folder = write_camus([1, 2, 3], tmp_path / "set", frames=9)
    before = load_cardiac_frames(str(folder), size=112, spacing=1.25)["train"].with_format("numpy")
    for path in folder.rglob("*_gt.nii.gz"):
        scan = read(path, modality="labels")
        write(scan.like(np.where(scan.array == 2, 1, scan.array) * (scan.array != 3)), path)
    after = load_cardiac_frames(str(folder), size=112, spacing=1.25)["train"].with_format("numpy")
    assert (np.stack(before["image"]) == 2).any() and not (np.stack(after["image"]) == 2).any()


@pytest.mark.slow
def test_frames_are_images_with_attributes(camus_folder: Path) -> None:
    data = load_attribute_images(str(camus_folder), attributes=NAMES, measure="cardiac", size=96, spacing=1.6)
    images = AttributeImages(data["train"], NAMES, "image", channels=None)
    assert images.images.shape == (14, 96, 96) and images.attributes.shape == (14, 7)


@pytest.mark.slow
@pytest.mark.parametrize("deviation", [0.4, 1.0])
def test_borders_jitter_by_the_stated_deviation_each_by_itself(deviation: float) -> None:
    phantom = CardiacPhantom(3)
    clean = phantom.labels(phantom.phases(4), (400, 400), 0.4)
    jittered = jitter_borders(clean, 0.4, deviation, np.random.default_rng(0))
    displaced = []
    for inner in ((1,), (1, 2)):
        distance = signed_distance(np.isin(clean, inner), (0.4, 0.4))
        change = signed_distance(np.isin(jittered, inner), (0.4, 0.4)) - distance
        border = np.abs(distance) < 0.3
        assert np.std(change[border]) == pytest.approx(deviation, rel=0.25)
        displaced.append(change)
    near = np.abs(signed_distance(np.isin(clean, (1, 2)), (0.4, 0.4))) < 0.3
    assert abs(np.corrcoef(displaced[0][near], displaced[1][near])[0, 1]) < 0.5
    np.testing.assert_array_equal(
        jitter_borders(clean[:1], 0.4, 0.0, np.random.default_rng(0)), np.where(clean[:1] == 3, 0, clean[:1])
    )
