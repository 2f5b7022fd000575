from __future__ import annotations

import contextlib
import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from meddiffusers.data.io import read
from meddiffusers.datasets.public import checking
from meddiffusers.datasets.public.checking import check_scan, find_scan_issues
from meddiffusers.datasets.public.finding import Row

AFFINE = np.diag([-1.0, 1.0, 2.0, 1.0])
VOXELS = np.random.default_rng(0).integers(0, 2**15, (40, 40, 30)).astype(np.int16)


@pytest.fixture(params=[".nii", ".nii.gz"])
def path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    file = tmp_path / f"scan{request.param}"
    nibabel.save(nibabel.Nifti1Image(VOXELS, AFFINE), file)
    return file


def test_a_sound_file_is_not_decompressed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "read", lambda path: pytest.fail("read whole"))
    check = check_scan(path)
    assert (check.issue, check.shape) == ("", (40, 40, 30))
    np.testing.assert_array_equal(check.affine, AFFINE)


@pytest.mark.parametrize("kept", [0.999, 0.5, 0.01, 0.002, 0])
def test_every_cut_is_seen(path: Path, kept: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    assert check_scan(path).issue.startswith(f"{path}: ")


def test_gzip_members_in_a_row_are_no_issue(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VOXELS, AFFINE).to_bytes()
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(gzip.compress(image[:9999]) + gzip.compress(image[9999:]) + gzip.compress(b""))  # as bgzip does
    assert check_scan(path).issue == ""


def test_a_flipped_bit_shows_when_every_voxel_is_read(tmp_path: Path) -> None:
    image = bytearray(nibabel.Nifti1Image(VOXELS, AFFINE).to_bytes())
    sound = gzip.compress(image)
    image[-1] ^= 1
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(gzip.compress(image)[:-8] + sound[-8:])  # the checksum of what it was
    assert check_scan(path).issue == ""
    assert check_scan(path, verify=True).issue.startswith(f"{path}: ")
    path.write_bytes(sound)
    assert check_scan(path, verify=True).issue == ""


def test_an_affine_that_is_none_is_a_issue(path: Path) -> None:
    data = bytearray(nibabel.Nifti1Image(VOXELS, AFFINE).to_bytes())
    data[280:328] = bytes(48)  # the three rows of the sform
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    assert "scan.nii" in check_scan(path).issue
    assert "voxels of 0 × 0 × 0 mm" in check_scan(path).issue


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("srow_x", [1e38, 0, 0, 0], "voxels of"), ("scl_slope", np.inf, "a slope of inf"), ("qform_code", 99, "")],
)
def test_headers_are_checked_as_the_reader_takes_them(path: Path, field: str, value: Any, message: str) -> None:
    image = nibabel.Nifti1Image(VOXELS, AFFINE)
    header = image.header.copy()
    block = bytearray(image.to_bytes())
    header.set_sform(AFFINE, 1)
    header[field] = value
    header["vox_offset"], header["magic"] = 352, b"n+1"
    block[:348] = header.binaryblock
    path.write_bytes(gzip.compress(block) if path.suffix == ".gz" else block)
    check = check_scan(path)
    assert message in check.issue
    assert bool(check.issue) == bool(message)
    with contextlib.nullcontext() if not message else pytest.raises(ValueError, match=message):
        assert read(path).shape == VOXELS.shape


def test_an_analyze_image_of_another_size_is_a_issue(tmp_path: Path) -> None:
    path = tmp_path / "scan.hdr"
    nibabel.save(nibabel.AnalyzeImage(VOXELS, AFFINE), path)
    assert check_scan(path).issue == ""
    path.with_suffix(".img").write_bytes(VOXELS.tobytes()[:-2])
    assert check_scan(path).issue.startswith(f"{path}: ")
    path.with_suffix(".img").unlink()
    assert "scan.img" in check_scan(path).issue


def test_an_absent_file_and_a_foreign_one_are_issues(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii"
    assert "no such file" in check_scan(path).issue
    path.write_bytes(b"a text of some length" * 50)
    assert check_scan(path).issue.startswith(f"{path}: ")


def test_a_file_that_may_not_be_opened_is_a_issue(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *args: str) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    for name in ("open", "read_bytes"):
        monkeypatch.setattr(Path, name, refuse)
    assert f"Permission denied: '{path}'" in check_scan(path).issue


def test_issues_are_those_of_one_thread_for_any_number(tmp_path: Path) -> None:
    rows = []
    for number in range(12):
        path = tmp_path / f"{number}.nii"
        nibabel.save(nibabel.Nifti1Image(np.full((2, 2, number % 5 + 1), 7, np.uint8), AFFINE), path)
        rows.append(Row(str(number), str(number), {"seg": path, "t1": tmp_path / "0.nii"}))
    results = [
        find_scan_issues(rows, verify=True, same_grid=True, label_values={"seg": (0, 7)}, threads=threads)
        for threads in (1, 3)
    ]
    assert results[0] == results[1]
    assert [issue.subject for issue in results[0]] == [str(number) for number in range(12) if number % 5]
