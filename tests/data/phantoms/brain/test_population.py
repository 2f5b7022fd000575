from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from meddiffusers.data import layouts
from meddiffusers.data.io import read
from meddiffusers.data.phantoms.brain import population
from meddiffusers.data.phantoms.brain.phantom import BrainPhantom
from meddiffusers.data.phantoms.brain.template import template
from meddiffusers.data.regions import REGIONS
from meddiffusers.data.subject import Subject
from meddiffusers.datasets import phantom_slices as slices_module
from meddiffusers.datasets import public
from meddiffusers.datasets.phantom_slices import phantom_slices


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    template()  # from the cache of this machine, before it is replaced
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    yield tmp_path / "cache"


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same subjects with voxels four times as long."""
    fine = population._on_grid

    def small(subject: Any, sizes: Any, steps: Any, *arguments: Any, **named: Any) -> Subject:
        fewer, longer = tuple(-(-size // 4) for size in sizes), tuple(4 * step for step in steps)
        return fine(subject, fewer, longer, *arguments, **named)

    monkeypatch.setattr(population, "_on_grid", small)


def same(one: datasets.Dataset, other: datasets.Dataset) -> bool:
    return len(one) == len(other) and all(a == b for a, b in zip(one, other, strict=True))


@pytest.mark.slow
def test_slices_do_not_depend_on_the_number_of_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one = phantom_slices(4, seed=3, size=32)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "other")
    two = phantom_slices(4, seed=3, size=32, num_proc=2)
    assert one.cache_files != two.cache_files
    assert same(one, two)
    assert not same(one, phantom_slices(4, seed=4, size=32))


@pytest.mark.slow
def test_slices_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = phantom_slices(2, size=32)
    monkeypatch.setattr(slices_module, "random_phantom", lambda *_, **__: pytest.fail("made twice"))
    assert same(first, phantom_slices(2, size=32))


@pytest.mark.slow
def test_a_slice_is_upright_and_its_columns_belong_together() -> None:
    heights = (8.0, 8.0)  # where caudate and thalamus are
    data = phantom_slices(1, size=64, shares={None: 1.0}, modalities=("t1", "t2"), heights=heights)
    row = data.with_format("numpy")[0]
    assert row["image"].shape == (2, 64, 64)

    def centre(*ids: int) -> np.ndarray:
        return np.argwhere(np.isin(row["regions"], ids)).mean(axis=0)

    assert centre(41, 42)[1] + 5 < 31.5 < centre(2, 3)[1] - 5  # the patient's right is on the left
    assert centre(11, 50)[0] + 5 < centre(10, 49)[0]  # the front is up: the caudate before the thalamus
    assert ((row["image"][0] > 0) == (row["regions"] > 0)).mean() > 0.97
    t1, t2 = (image[row["regions"] > 0] for image in row["image"])
    assert np.corrcoef(t1, t2)[0, 1] < -0.3  # what is bright in one is dark in the other
    assert row["lesion"] == "none"
    assert not row["lesions"].any()
    assert not row["raters"].any()


@pytest.mark.slow
def test_the_first_slice_of_a_subject_meets_its_lesion(monkeypatch: pytest.MonkeyPatch) -> None:
    right = BrainPhantom.lesion_heights  # of which single ones miss, here most of them
    monkeypatch.setattr(BrainPhantom, "lesion_heights", lambda self: np.append([70.0, 80, 90, 100], right(self)[:3]))
    shares: dict[str | None, float] = {"cavity": 0.5, "white_matter_lesions": 0.5}
    data = phantom_slices(7, seed=5, size=64, shares=shares, per_subject=3).with_format("numpy")
    assert list(data["subject"]) == ["5-0"] * 3 + ["5-1"] * 3 + ["5-2"]
    assert [data[index]["lesions"].any() for index in (0, 3, 6)] == [True] * 3
    assert data["raters"][:].any()
    for name in ("age", "difficulty", "lesion"):
        assert len(set(data[:3][name].tolist())) == 1
    assert len({float(height) for height in data["height"]}) == 7


def test_kinds_and_difficulties_follow_the_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(population, "BrainPhantom", lambda number, lesion, difficulty: (number, lesion, difficulty))
    kinds, weights = tuple(slices_module.SHARES), tuple(slices_module.SHARES.values())
    people: list[Any] = [population.random_phantom(np.random.default_rng([0, k]), kinds, weights) for k in range(4000)]
    for kind, share in slices_module.SHARES.items():
        difficulties = [difficulty for _, sampled, difficulty in people if sampled == kind]
        assert len(difficulties) / 4000 == pytest.approx(share, abs=0.03)  # 4 standard errors
        np.testing.assert_allclose(np.quantile(difficulties, (0, 0.5, 1)), (0, 0.5, 1), atol=0.09)
    assert len({number for number, _, _ in people}) > 3990


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shares": {"abscess": 1.0}}, r"Got the shares {'abscess': 1.0}; expected parts of tumour, white_matter"),
        ({"shares": {None: 0.5}}, "expected parts of tumour, white_matter_lesions, cavity and None that sum to 1"),
        ({"shares": {None: 1.5, "tumour": -0.5}}, "Got the shares .*-0.5"),
        ({"shares": {}}, "Got the shares {}"),
        ({"modalities": ("t1", "swi")}, r"Got the modalities \['t1', 'swi'\]; expected different ones of t1"),
        ({"modalities": ("t1", "t1")}, "expected different ones"),
        ({"modalities": ()}, r"Got the modalities \[\]"),
        ({"per_subject": 0}, "Got {'per_subject': 0}; expected n, size and per_subject of at least 1"),
        ({"n": 0, "seed": -1}, "Got {'n': 0, 'seed': -1}"),
    ],
)
def test_invalid_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        phantom_slices(**{"n": 1, **arguments})


@pytest.mark.slow
def test_shares_may_be_rounded() -> None:
    thirds = {None: 0.333333, "tumour": 0.333333, "cavity": 0.333333}
    assert len(phantom_slices(1, size=16, shares=thirds)) == 1


@pytest.mark.usefixtures("coarse")
@pytest.mark.slow
def test_brats_loads_what_the_phantom_wrote(tmp_path: Path) -> None:
    subjects = list(population.brats_subjects(2, seed=1))
    data = public.brats(layouts.write_brats(subjects, tmp_path / "brats"), test_fraction=0.5)
    rows = sorted((row for part in data.values() for row in part), key=lambda row: row["subject"])
    for row, subject in zip(rows, subjects, strict=True):
        for name in ("t1", "t1ce", "t2", "flair"):
            scan = read(row[name])
            np.testing.assert_array_equal(scan.array, subject.images[name].array)
            assert scan.orientation == "LPS"
            np.testing.assert_allclose(scan.affine, subject.images[name].affine, atol=1e-4)
        np.testing.assert_array_equal(read(row["seg"]).array, subject.lesions.array)
        assert row["age"] == pytest.approx(subject.record["age"], abs=0.01)
        assert row["survival_days"] == subject.record["survival_days"]
    assert np.concatenate([subject.lesions.array.ravel() for subject in subjects]).any()


@pytest.mark.usefixtures("coarse")
@pytest.mark.slow
def test_ixi_loads_heads_with_their_record(tmp_path: Path) -> None:
    [subject] = population.ixi_subjects(1, seed=2)
    [row] = public.ixi(layouts.write_ixi([subject], tmp_path / "ixi"), test_fraction=0)["train"]
    assert (row["sex"], row["site"]) == (subject.record["sex"], subject.record["site"])
    assert row["age"] == pytest.approx(subject.record["age"], abs=0.01)
    assert read(row["t1"]).shape != read(row["t2"]).shape == read(row["pd"]).shape
    for name, scan in subject.images.items():
        np.testing.assert_array_equal(read(row[name]).array, scan.array)
        np.testing.assert_allclose(read(row[name]).affine, scan.affine, atol=1e-4)


@pytest.mark.usefixtures("coarse")
@pytest.mark.slow
def test_oasis_loads_brains_with_tissues(tmp_path: Path) -> None:
    [subject] = population.oasis1_subjects(1)
    [row] = public.oasis1(layouts.write_oasis1([subject], tmp_path / "oasis"), test_fraction=0)["train"]
    assert (row["sex"], row["age"]) == (subject.record["sex"], pytest.approx(subject.record["age"], abs=0.01))
    t1, tissues = read(row["t1"]), read(row["seg"])
    assert (t1.orientation, t1.spacing) == ("LAS", pytest.approx((4, 4, 4)))  # the order of axes that Analyze keeps
    np.testing.assert_array_equal(t1.array[:, ::-1], subject.images["t1"].array)
    white = np.isin(subject.regions.array, (2, 41))
    assert (tissues.array[:, ::-1][white] == 3).all()


@pytest.mark.usefixtures("coarse")
@pytest.mark.slow
def test_ibsr_loads_heads_with_regions(tmp_path: Path) -> None:
    [subject] = population.ibsr_subjects(1)
    [row] = public.ibsr18(layouts.write_ibsr([subject], tmp_path / "ibsr"), test_fraction=0)["train"]
    t1, regions = read(row["t1"]), read(row["seg"])
    assert (t1.shape, t1.spacing) == ((64, 32, 64), pytest.approx((3.75, 6, 3.75)))
    np.testing.assert_array_equal(t1.array, subject.images["t1"].array)
    np.testing.assert_array_equal(regions.array, subject.regions.array)
    assert {2, 3, 41, 42} <= set(np.unique(regions.array)) - {0} <= set(REGIONS)
    assert (t1.array[regions.array == 0] > 100).any()  # the head around the brain
