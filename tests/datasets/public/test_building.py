from __future__ import annotations

import os
from pathlib import Path

import datasets
import numpy as np
import pytest
from helpers.rows import row_of, values_of, voxels
from helpers.small_subjects import small_subject

from meddiffusers.data.layouts import write_brats, write_oasis1
from meddiffusers.datasets.public import DatasetError, brats, building, load_scans, oasis1
from meddiffusers.datasets.public.splitting import select_test_subjects


@pytest.fixture
def analyze(tmp_path: Path) -> Path:
    """A set whose scans are to be converted."""
    return write_oasis1((small_subject(number, ("t1",)) for number in range(1, 7)), tmp_path / "oasis")


def tables(data: datasets.DatasetDict) -> dict[str, list[dict]]:
    """Everything as it is stored, bytes included."""
    return {name: split.data.to_pylist() for name, split in data.items()}


def test_patients_are_split_by_seed_alone() -> None:
    names = [f"p{number}" for number in range(100)]
    test = select_test_subjects(names, 0.2, 0)
    assert len(test) == 20
    assert select_test_subjects([*reversed(names), "p3"], 0.2, 0) == test
    assert select_test_subjects(names, 0.2, 1) != test
    assert select_test_subjects(["a", "b"], 0.01, 0) in ({"a"}, {"b"})
    assert len(select_test_subjects(["a", "b"], 0.99, 0)) == 1


def test_the_split_is_pinned() -> None:
    subjects = [f"BraTS20_Training_{number:03d}" for number in range(1, 11)]
    assert select_test_subjects(subjects, 0.2, 0) == {"BraTS20_Training_001", "BraTS20_Training_006"}


def test_a_few_more_patients_move_few_others() -> None:
    names = [f"p{number}" for number in range(100)]
    assert len(select_test_subjects(names, 0.2, 0) - select_test_subjects([*names, "q1", "q2"], 0.2, 0)) <= 2


@pytest.mark.slow
def test_splits_do_not_depend_on_the_order_on_disk(tmp_path: Path) -> None:
    orders = ([3, 1, 5, 2, 4], [5, 4, 3, 2, 1])
    build_splits = []
    for index, order in enumerate(orders):
        folder = write_brats((small_subject(number) for number in order), tmp_path / str(index))
        build_splits.append(values_of(brats(folder, test_fraction=0.4)))
    assert build_splits[0] == build_splits[1]
    train, test = (set(build_splits[0][name]) for name in ("train", "test"))
    assert (len(train), len(test), train & test) == (3, 2, set())


def test_impossible_splits_are_refused(tmp_path: Path) -> None:
    folder = write_brats([small_subject(1)], tmp_path / "one")
    with pytest.raises(ValueError, match=r"test_fraction=1.0; expected at least 0 and less than 1"):
        brats(folder, test_fraction=1.0)
    with pytest.raises(ValueError, match=r"One subject \(BraTS20_Training_001\) cannot be split"):
        brats(folder)
    assert list(brats(folder, test_fraction=0)) == ["train"]


@pytest.mark.slow
def test_the_result_does_not_depend_on_the_processes(
    analyze: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = tables(oasis1(analyze))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "another")
    assert tables(oasis1(analyze, num_proc=2)) == one


def test_the_second_call_reads_the_cache(analyze: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tables(oasis1(analyze))
    monkeypatch.setattr(building, "read", lambda path: pytest.fail("converted again"))
    assert tables(oasis1(analyze)) == first


@pytest.mark.parametrize("ending", [".hdr", ".img"])
@pytest.mark.slow
def test_a_changed_file_is_read_again(analyze: Path, ending: str) -> None:
    oasis1(analyze)
    (voxels_file,) = analyze.glob(f"OAS1_0003_MR1/PROCESSED/MPRAGE/T88_111/*{ending}")
    data = bytearray(voxels_file.read_bytes())
    if ending == ".img":
        data[:] = bytes(len(data))
    else:
        data[80:84] = np.float32(2.5).tobytes()  # pixdim[1], the spacing along the first axis
    voxels_file.write_bytes(data)
    os.utime(voxels_file, (1, 1))
    image = row_of(oasis1(analyze), "OAS1_0003")["t1"]
    if ending == ".img":
        assert not voxels(image).any()
    else:
        assert image.header.get_zooms()[0] == 2.5


def test_what_is_nifti_stays_where_it_is(tmp_path: Path) -> None:
    folder = write_brats((small_subject(number) for number in (1, 2)), tmp_path / "brats")
    stored = tables(brats(folder, test_fraction=0))["train"][0]["t1"]
    assert stored == {
        "bytes": None,
        "path": str(folder / "BraTS20_Training_001" / "BraTS20_Training_001_t1.nii.gz"),
    }


def test_it_survives_being_pushed(tmp_path: Path) -> None:
    """push_to_hub embeds the files and writes Parquet."""
    folder = write_brats((small_subject(number) for number in (1, 2, 3)), tmp_path / "brats")
    split = brats(folder, test_fraction=0)["train"]
    embedded = split.with_format("arrow").map(datasets.table.embed_table_storage, batched=True, features=split.features)
    embedded.with_format(None).to_parquet(tmp_path / "pushed.parquet")
    for file in sorted(folder.rglob("*.nii.gz")):
        file.unlink()
    again = datasets.Dataset.from_parquet(str(tmp_path / "pushed.parquet"))
    assert again.features == split.features
    for number, row in enumerate(again, 1):
        for name, scan in small_subject(number).images.items():
            np.testing.assert_array_equal(voxels(row[name]), scan.array[0])
            np.testing.assert_allclose(row[name].affine, scan.affine, atol=1e-6)


def test_it_streams(analyze: Path) -> None:
    split = oasis1(analyze, test_fraction=0)["train"]
    streamed = list(split.to_iterable_dataset(num_shards=3))
    assert [row["subject"] for row in streamed] == split["subject"][:]
    np.testing.assert_array_equal(voxels(streamed[2]["t1"]), voxels(split[2]["t1"]))


def test_nothing_left_is_an_error_even_when_issues_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(b"")
    (tmp_path / "b.nii").write_bytes(b"")
    with pytest.raises(DatasetError, match="has 2 issues"):
        load_scans(tmp_path, skip_invalid=True)
