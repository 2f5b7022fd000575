from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from meddiffusers.data import layouts, sets
from meddiffusers.data.brain_phantom import population
from meddiffusers.data.brain_phantom.population import phantom_slices
from meddiffusers.data.brain_phantom.template import template
from meddiffusers.data.case import Case
from meddiffusers.data.io import read
from meddiffusers.data.regions import REGIONS


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    template()  # from the cache of this machine, before it is replaced
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    yield tmp_path / "cache"


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same cases with voxels four times as long."""
    fine = population._case

    def small(subject: Any, sizes: Any, steps: Any, *arguments: Any, **named: Any) -> Case:
        fewer, longer = tuple(-(-size // 4) for size in sizes), tuple(4 * step for step in steps)
        return fine(subject, fewer, longer, *arguments, **named)

    monkeypatch.setattr(population, "_case", small)


def same(one: datasets.Dataset, other: datasets.Dataset) -> bool:
    return len(one) == len(other) and all(a == b for a, b in zip(one, other, strict=True))


def test_slices_do_not_depend_on_the_number_of_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one = phantom_slices(5, seed=3, size=32)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "other")
    two = phantom_slices(5, seed=3, size=32, num_proc=2)
    assert one.cache_files != two.cache_files
    assert same(one, two)
    assert not same(one, phantom_slices(5, seed=4, size=32))


def test_slices_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = phantom_slices(2, size=32)
    monkeypatch.setattr(population, "BrainPhantom", lambda *_, **__: pytest.fail("made twice"))
    assert same(first, phantom_slices(2, size=32))


def test_a_slice_is_upright_and_its_columns_belong_together() -> None:
    row = phantom_slices(1, size=64, shares={None: 1.0}, sequences=("t1", "t2")).with_format("numpy")[0]
    assert row["image"].shape == (2, 64, 64)
    regions = row["regions"]
    left, right = (np.nonzero(np.isin(regions, ids))[1].mean() for ids in ((2, 3), (41, 42)))
    assert right + 10 < left  # the patient's right is on the left
    assert ((row["image"][0] > 0) == (regions > 0)).mean() > 0.97
    assert row["lesion"] == "none"
    assert not row["lesions"].any()
    assert not row["raters"].any()


def test_front_is_up() -> None:
    data = phantom_slices(12, seed=1, size=48, shares={None: 1.0}).with_format("numpy")
    rows = {label: [] for label in (11, 8)}  # the caudate lies before the cerebellum
    for row in data:
        for label, found in rows.items():
            found.extend(np.nonzero(row["regions"] == label)[0].tolist())
    assert np.mean(rows[11]) + 8 < np.mean(rows[8])


def test_the_first_slice_of_a_subject_meets_its_lesion() -> None:
    data = phantom_slices(7, seed=5, size=64, shares={"cavity": 0.5, "tumour": 0.5}, per_subject=3).with_format("numpy")
    assert list(data["subject"]) == ["5-0"] * 3 + ["5-1"] * 3 + ["5-2"]
    for index in (0, 3, 6):
        assert data[index]["raters"].any() or data[index]["lesions"].any()
    for name in ("age", "difficulty", "lesion"):
        assert len(set(data[:3][name].tolist())) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shares": {"abscess": 1.0}}, r"Got \['abscess'\]"),
        ({"shares": {None: 0.5}}, "expected shares of tumour, white_matter_lesions, cavity and None that sum to 1"),
        ({"sequences": ("t1", "swi")}, r"Got \['swi'\]"),
    ],
)
def test_unknown_kinds_and_sequences_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        phantom_slices(1, **arguments)


@pytest.mark.usefixtures("coarse")
def test_brats_loads_what_the_phantom_wrote(tmp_path: Path) -> None:
    cases = list(population.brats_cases(2, seed=1))
    data = sets.brats2020(layouts.write_brats(cases, tmp_path / "brats"), test_fraction=0.5)
    rows = sorted((row for part in data.values() for row in part), key=lambda row: row["subject"])
    for row, case in zip(rows, cases, strict=True):
        for name in ("t1", "t1ce", "t2", "flair"):
            scan = read(row[name])
            np.testing.assert_array_equal(scan.array, case.images[name].array)
            assert scan.orientation == "LPS"
        np.testing.assert_array_equal(read(row["seg"]).array, case.lesions.array)
        assert row["age"] == pytest.approx(case.record["age"], abs=0.01)
        assert row["survival_days"] == case.record["survival_days"]
    assert np.concatenate([case.lesions.array.ravel() for case in cases]).any()


@pytest.mark.usefixtures("coarse")
def test_ixi_loads_heads_with_their_record(tmp_path: Path) -> None:
    [case] = population.ixi_cases(1, seed=2)
    [row] = sets.ixi(layouts.write_ixi([case], tmp_path / "ixi"), test_fraction=0)["train"]
    assert (row["sex"], row["site"]) == (case.record["sex"], case.record["site"])
    assert row["age"] == pytest.approx(case.record["age"], abs=0.01)
    assert read(row["t1"]).shape != read(row["t2"]).shape == read(row["pd"]).shape
    np.testing.assert_array_equal(read(row["t2"]).array, case.images["t2"].array)


@pytest.mark.usefixtures("coarse")
def test_oasis_and_ibsr_load_brains_with_labels(tmp_path: Path) -> None:
    [oasis] = population.oasis1_cases(1)
    [row] = sets.oasis1(layouts.write_oasis1([oasis], tmp_path / "oasis"), test_fraction=0)["train"]
    assert row["sex"] == oasis.record["sex"]
    [ibsr] = population.ibsr_cases(1)
    [row] = sets.ibsr18(layouts.write_ibsr([ibsr], tmp_path / "ibsr"), test_fraction=0)["train"]
    labels = [read(value).array for value in row.values() if hasattr(value, "get_fdata") or isinstance(value, dict)]
    found = next(array for array in labels if set(np.unique(array)) == set(np.unique(ibsr.regions.array)))
    assert set(np.unique(found)) - {0} <= set(REGIONS)
