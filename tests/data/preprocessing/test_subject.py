from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from helpers.dicom_series import write_series
from helpers.geometries import where
from helpers.small_subjects import AFFINE, small_subject
from scipy.spatial.transform import Rotation

from meddiffusers.data.io import write
from meddiffusers.data.layouts import write_brats
from meddiffusers.data.preprocessing.subject import read_subject
from meddiffusers.data.scan import Scan, stack_channels

MODALITIES = ("t1", "t1ce", "t2", "flair")
SUBJECT = small_subject(1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A subject of BraTS with its label file."""
    return write_brats([SUBJECT], tmp_path / "set") / "BraTS20_Training_001"


def same_channels(scan: Scan, names: tuple[str, ...]) -> None:
    assert scan.modality == names
    np.testing.assert_allclose(scan.affine, AFFINE, atol=1e-6)
    for name in names:
        np.testing.assert_array_equal(scan.channel(name), SUBJECT.images[name].array[0])


def test_file_names_give_the_modalities_of_a_folder(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "notes.txt").write_text("no scan")
    scan = read_subject(folder)
    same_channels(scan, tuple(sorted(MODALITIES)))
    assert scan.source == str(folder)
    same_channels(read_subject(str(folder), ("flair", "pd", "t1")), ("flair", "t1"))
    assert not caplog.records
    write(SUBJECT.images["t1"], folder / "other.nii.gz")
    read_subject(folder)
    assert "names without a modality, not used: other.nii.gz" in caplog.text


def test_other_modalities_are_not_read(folder: Path) -> None:
    (folder / "dwi.nii.gz").write_bytes(b"damaged")
    same_channels(read_subject(folder, MODALITIES), MODALITIES)


def test_all_kinds_of_sources_give_the_same(folder: Path) -> None:
    files = {name: folder / f"{folder.name}_{name}.nii.gz" for name in MODALITIES}
    images = list(SUBJECT.images.values())
    for source in (SUBJECT, SUBJECT.images, files, images, list(files.values()), stack_channels(images), folder):
        same_channels(read_subject(source, MODALITIES), MODALITIES)
    for source in (files["t1ce"], images[1], {"t1ce": files["t1ce"]}, [images[1]]):
        same_channels(read_subject(source), ("t1ce",))
    renamed = read_subject({"t1ce": files["t2"], "t2": images[0]})
    np.testing.assert_array_equal(renamed.channel("t1ce"), images[2].array[0])
    np.testing.assert_array_equal(renamed.channel("t2"), images[0].array[0])


def test_dicom_series_are_identified_by_folder_or_description(tmp_path: Path) -> None:
    one = np.random.default_rng(0).integers(0, 1000, (4, 5, 3)).astype(np.int16)
    affine = np.diag([-1.0, -1.0, 1.5, 1.0])
    write_series(tmp_path / "t1" / "images", one, affine)
    write_series(tmp_path / "series 2", one + 1, affine, SeriesDescription="FLAIR tra")
    scan = read_subject(tmp_path)
    assert scan.modality == ("flair", "t1")
    np.testing.assert_array_equal(scan.channel("t1"), one)
    np.testing.assert_array_equal(scan.channel("flair"), one + 1)
    assert read_subject(tmp_path / "series 2").modality == ("flair",)


def test_tags_of_dicom_outrank_the_names_of_folders(tmp_path: Path) -> None:
    one, affine = np.ones((4, 5, 3), np.int16), np.diag([-1.0, -1.0, 1.5, 1.0])
    write_series(tmp_path / "t1", one, affine, ContrastBolusAgent="Dotarem")
    write_series(tmp_path / "T2", one, affine, EchoTime=100, RepetitionTime=9000, InversionTime=2500)
    scan = read_subject(tmp_path)
    assert scan.modality == ("flair", "t1ce")
    assert scan.modality_from == "T2: EchoTime 100, InversionTime 2500; t1: t1, ContrastBolusAgent"


def test_names_that_say_several_modalities_are_refused_where_they_may_be_needed(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unclear = write(SUBJECT.images["t1"], folder / "pre_T1_gd.nii.gz")
    same_channels(read_subject(folder, MODALITIES), MODALITIES)  # all are there without it
    assert "the name says t1, pre, gd: t1 or t1ce; not used" in caplog.text
    (folder / f"{folder.name}_t1ce.nii.gz").unlink()
    message = r"pre_T1_gd.nii.gz: the name says .*; expected one\. Rename it, or say which: \{'t1': path\} or \{'t1ce'"
    with pytest.raises(ValueError, match=message):
        read_subject(folder, MODALITIES)
    assert read_subject(folder, ("t2", "flair")).modality == ("t2", "flair")
    with pytest.raises(ValueError, match=r"is unknown \(name: t1, pre, gd: t1 or t1ce\); give it: \{'t1ce': path"):
        read_subject(unclear)
    assert read_subject({"t1ce": unclear}).modality == ("t1ce",)


def test_the_names_of_brats_since_2023_are_known(folder: Path) -> None:
    for old, new in (("t1ce", "t1c"), ("t1", "t1n"), ("t2", "t2W"), ("flair", "t2f"), ("seg", "seg")):
        (folder / f"{folder.name}_{old}.nii.gz").rename(folder / f"BraTS-GLI-00000-000-{new}.nii.gz")
    same_channels(read_subject(folder, MODALITIES), MODALITIES)


def test_another_grid_is_resampled_onto_the_finest(caplog: pytest.LogCaptureFixture) -> None:
    """A linear function of the position is preserved by linear interpolation, for a rotation of 15° and 4 mm slices."""
    fine = np.diag([-1.0, 1.0, 1.2, 1.0])
    fine[:3, 3] = 20, -25, 5
    thick = np.eye(4)
    thick[:3, :3] = Rotation.from_euler("xyz", (15, -10, 5), degrees=True).as_matrix() @ np.diag([1.5, 1.5, 4])
    thick[:3, 3] = -10, -10, 10
    places, other = where(fine, (30, 34, 28)), where(thick, (14, 15, 7))

    def values(mm: np.ndarray) -> np.ndarray:
        return 500 + 3 * mm[0] - 2 * mm[1] + 5 * mm[2]

    scan = read_subject([Scan(values(other), thick, "flair"), Scan(values(places), fine, "t1")])
    assert scan.modality == ("flair", "t1")
    assert scan.affine.tobytes() == fine.tobytes()
    index = np.einsum("ij,jxyz->ixyz", np.linalg.inv(thick), np.concatenate([places, np.ones_like(places[:1])]))[:3]
    last = np.array([13, 14, 6])[:, None, None, None]
    inside = ((index >= 0) & (index <= last)).all(axis=0)
    assert 500 < inside.sum() < inside.size / 2
    np.testing.assert_allclose(scan.channel("flair")[inside], values(places)[inside], atol=1e-2)
    beyond = ((index < -1) | (index > last + 1)).any(axis=0)
    assert not scan.channel("flair")[beyond].any()
    assert "flair is resampled onto the grid of t1; they are taken to be registered" in caplog.text


def test_thick_slices_reach_to_their_faces() -> None:
    fine, thick = np.eye(4), np.diag([1.0, 1.0, 4.0, 1.0])
    thick[2, 3] = 1.5  # three slices fill the fine grid's twelve
    scan = read_subject([Scan(np.ones((5, 5, 12)), fine, "t1"), Scan(np.full((5, 5, 3), 7), thick, "flair")])
    assert (scan.channel("flair") == 7).all()


def test_the_same_grid_up_to_rounding_is_not_resampled(caplog: pytest.LogCaptureFixture) -> None:
    scan = SUBJECT.images["t1"]
    near = Scan(scan.array, AFFINE + 1e-5 * np.eye(4)[:, [1, 0, 2, 3]] * [[1], [1], [1], [0]], "t2")
    np.testing.assert_array_equal(read_subject([scan, near]).channel("t2"), scan.array[0])
    assert not caplog.records


def test_unclear_sources_are_refused(folder: Path, tmp_path: Path) -> None:
    image = SUBJECT.images["t1"]
    with pytest.raises(FileNotFoundError, match="nowhere: no such file or folder"):
        read_subject(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"Got flair, .*, t2 in .*_001; expected at least one of pd, dwi\. Give"):
        read_subject(folder, ("pd", "dwi"))
    with pytest.raises(ValueError, match="Got nothing; expected at least one of t1, t1ce, t2, flair"):
        read_subject({})
    assert SUBJECT.lesions is not None
    with pytest.raises(ValueError, match="Got labels; expected at least one of t1"):
        read_subject(SUBJECT.lesions)
    write(image, folder / "again_t1.nii.gz")
    with pytest.raises(ValueError, match=r"Got 2 scans of t1: .*_t1.nii.gz, .*again_t1.nii.gz; .*Choose one: \{'t1'"):
        read_subject(folder)
    (tmp_path / "unnamed").mkdir()
    unnamed = write(image, tmp_path / "unnamed" / "a.nii.gz")
    with pytest.raises(ValueError, match=r"unnamed holds a.nii.gz; expected .* such as t1ce.nii.gz. .*\{'t1ce': path"):
        read_subject(tmp_path / "unnamed")
    with pytest.raises(ValueError, match=r"The modality of .*a.nii.gz is unknown; give it: \{'t1ce': path"):
        read_subject(unnamed)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no scan; expected"):
        read_subject(tmp_path / "empty")
    with pytest.raises(ValueError, match="A scan has 2 channels for t1; expected one"):
        read_subject({"t1": Scan(np.ones((2, 3, 3, 3)), np.eye(4), "t1")})
    far = np.eye(4)
    far[0, 3] = 500
    with pytest.raises(ValueError, match=r"t2 does not overlap with t1: .* check their affines"):
        read_subject([image, Scan(np.ones((3, 3, 3)), far, "t2")])
    with pytest.raises(ValueError, match="Got a int; expected a path"):
        read_subject(3)


def test_unused_modalities_are_noted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        read_subject(SUBJECT, ("t1",))
    assert "a subject: not used: t1ce, t2, flair" in caplog.text
