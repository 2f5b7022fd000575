from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import datasets
import nibabel
import numpy as np
import pytest
import SimpleITK
from helpers.dicom_series import write_series
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from meddiffusers.data.io import read, write
from meddiffusers.data.scan import Scan

NIBABEL_DATA = Path(nibabel.__file__).parent / "tests" / "data"
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
TYPES = ("int16", "uint16", "uint8", "int32", "float32", "float64", "bool")
few = settings(max_examples=25, deadline=None, derandomize=True)


@st.composite
def affines(draw: Any, handed: bool = False) -> np.ndarray:
    """Rotated, mirrored (unless `handed`), anisotropic affines at any position."""
    angles = draw(st.tuples(*[st.floats(-180, 180)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.2, 8)] * 3))
    flips = (1, 1, 1) if handed else draw(st.tuples(*[st.sampled_from((-1, 1))] * 3))
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * spacing * flips
    affine[:3, 3] = draw(st.tuples(*[st.floats(-300, 300)] * 3))
    return affine


@st.composite
def scans(draw: Any, types: tuple[str, ...] = TYPES, channels: int = 3) -> Scan:
    shape = draw(st.tuples(st.integers(1, channels), *[st.integers(1, 6)] * 3))
    dtype = np.dtype(draw(st.sampled_from(types)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    if dtype.kind in "iu":
        array = rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    else:
        array = (rng.normal(0, 1000, shape)).astype(dtype)
    return Scan(array, draw(affines()), "flair")


def written(scan: Scan, name: str, **options: Any) -> Scan:
    with tempfile.TemporaryDirectory() as folder:
        return read(write(scan, Path(folder) / name, **options))


def check_same(found: Scan, scan: Scan) -> None:
    expected = np.uint8 if scan.array.dtype == bool else scan.array.dtype
    assert found.array.dtype == expected
    np.testing.assert_array_equal(found.array, scan.array)
    np.testing.assert_allclose(found.affine, scan.affine, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(found.spacing, scan.spacing, rtol=1e-5)
    assert found.orientation == scan.orientation


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"])
@pytest.mark.slow
def test_formats_keep_values_types_and_place(suffix: str) -> None:
    @few
    @given(scans())
    def check(scan: Scan) -> None:
        found = written(scan, f"flair{suffix}")
        check_same(found, scan)
        assert found.modality == scan.modality

    check()


@few
@given(scans())
def test_nibabel_reads_what_is_written(scan: Scan) -> None:
    with tempfile.TemporaryDirectory() as folder:
        image: Any = nibabel.load(write(scan, Path(folder) / "a.nii.gz"))
        voxels = np.asarray(image.dataobj)
        np.testing.assert_array_equal(
            voxels if voxels.ndim == 3 else np.moveaxis(voxels, 3, 0),
            np.squeeze(scan.array, 0) if len(scan.array) == 1 else scan.array,
        )
        for affine, code in (image.header.get_sform(True), image.header.get_qform(True)):
            np.testing.assert_allclose(affine, scan.affine, rtol=1e-4, atol=1e-3)
            assert code == 1
        assert image.header.get_xyzt_units()[0] == "mm"


@few
@given(scans(types=("int16", "uint8", "float32"), channels=1), st.sampled_from([".nrrd", ".mha"]))
def test_simple_itk_puts_voxels_at_the_same_place(scan: Scan, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        image = SimpleITK.ReadImage(str(write(scan, Path(folder) / f"a{suffix}")))
    corner = [size - 1 for size in scan.shape]
    place = np.array([*image.TransformIndexToPhysicalPoint(corner), 1])
    np.testing.assert_allclose(LPS @ place, scan.affine @ [*corner, 1], atol=1e-3)
    assert image[corner] == scan.array[0][tuple(corner)]


@few
@given(scans(types=("int16", "uint8", "int32", "float32"), channels=1), st.sampled_from([".hdr", ".img"]))
def test_analyze_keeps_values_and_spacing(scan: Scan, named: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.img"
        image = nibabel.Spm99AnalyzeImage(scan.array[0], np.diag([-2.0, 1.5, 3, 1]))
        nibabel.save(image, path)
        (Path(folder) / "a.mat").unlink()
        found = read(path.with_suffix(named))
        oracle: Any = nibabel.load(path)
    np.testing.assert_array_equal(found.array, scan.array)
    np.testing.assert_allclose(found.affine, oracle.affine)
    np.testing.assert_allclose(found.spacing, (2, 1.5, 3))


@settings(few, max_examples=15)
@given(affines(handed=True), st.sampled_from(("int16", "uint16")), st.integers(1, 5), st.integers(0, 9))
@pytest.mark.slow
def test_dicom_series_keep_values_and_place_whatever_the_files_are_called(
    affine: np.ndarray, dtype: str, slices: int, seed: int
) -> None:
    affine = LPS @ affine
    bounds = np.iinfo(dtype)
    array = np.random.default_rng(seed).integers(bounds.min, bounds.max, (5, 4, slices), dtype)
    with tempfile.TemporaryDirectory() as folder:
        write_series(Path(folder), array, affine, seed)
        (Path(folder) / "DICOMDIR").write_bytes(b"index")
        (Path(folder) / "notes.txt").write_text("not an image")
        check_same(read(folder), Scan(array, affine))


@settings(few, max_examples=12)
@given(affines(handed=True), st.permutations(range(3)), st.tuples(*[st.booleans()] * 3), st.integers(0, 9))
@pytest.mark.slow
def test_segmentations_lie_on_their_series_whatever_the_axes_of_the_labels(
    affine: np.ndarray, order: list[int], flips: tuple[bool, ...], seed: int
) -> None:
    affine = LPS @ affine
    labels = np.random.default_rng(seed).choice(np.array([0, 1, 2, 4], np.uint8), (6, 5, 4))
    turn = np.array([[axis, -1 if flip else 1] for axis, flip in zip(order, flips, strict=True)])
    turned = nibabel.orientations.apply_orientation(labels, turn)
    place = affine @ nibabel.orientations.inv_ornt_aff(turn, labels.shape)
    with tempfile.TemporaryDirectory() as folder:
        files = write_series(Path(folder) / "series", np.zeros(labels.shape, np.int16), affine, seed)
        names = {0: "background", 1: "necrosis", 2: "oedema", 4: "enhancing", 5: "not here"}
        path = Path(folder) / "labels.dcm"
        found = read(write(Scan(turned, place, "labels"), path, series=files, names=names))
    check_same(found, Scan(labels, affine))
    assert found.is_labels


@pytest.mark.parametrize("name", ["anatomical.nii", "standard.nii.gz", "functional.nii", "example_nifti2.nii.gz"])
def test_real_files_read_as_nibabel_reads_them(name: str) -> None:
    image: Any = nibabel.load(NIBABEL_DATA / name)
    found, values = read(NIBABEL_DATA / name), image.get_fdata()
    np.testing.assert_allclose(found.affine, image.affine)
    np.testing.assert_allclose(found.array, values[None] if values.ndim == 3 else np.moveaxis(values, 3, 0), rtol=1e-6)


def test_values_of_datasets(tmp_path: Path) -> None:
    scan = Scan(np.arange(24, dtype=np.int16).reshape(1, 2, 3, 4), np.diag([2.0, 2, 3, 1]), "t1")
    path = write(scan, tmp_path / "t1.nii.gz")
    data = datasets.Dataset.from_dict({"scan": [str(path)]}).cast_column("scan", datasets.Nifti())
    for value in (data[0]["scan"], {"bytes": path.read_bytes(), "path": "t1.nii.gz"}, {"bytes": None, "path": path}):
        found = read(value)
        check_same(found, scan)
        assert found.modality == ("t1",)


def test_frames_keep_their_time_step(tmp_path: Path) -> None:
    scan = Scan(np.zeros((4, 5, 6, 1), np.uint8), np.eye(4), "cine", time_step=0.04)
    assert read(write(scan, tmp_path / "a.nii")).time_step == pytest.approx(0.04)


def test_scaled_values_are_float32(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.array([[[1, 2, 3]]], np.int16), np.eye(4))
    image.header.set_slope_inter(0.5, -1)
    data = bytearray(image.to_bytes())
    data[112:120] = np.array([0.5, -1], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(data)
    found = read(tmp_path / "a.nii")
    assert found.array.dtype == np.float32
    np.testing.assert_array_equal(found.array[0, 0, 0], [-0.5, 0, 0.5])


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.mhd"])
@pytest.mark.parametrize("kind", [">i2", ">u2", ">f4", ">f8", ">i4", "<i2"])
def test_arrays_of_either_byte_order_are_written(tmp_path: Path, name: str, kind: str) -> None:
    scan = Scan(np.arange(-12, 12).reshape(2, 3, 4).astype(kind), np.diag([2.0, 2, 3, 1]))
    found = written(scan, str(tmp_path / name))
    np.testing.assert_array_equal(found.array, scan.array)
    assert found.array.dtype == np.dtype(kind).newbyteorder("=")


def test_what_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    scan = Scan(np.full((1, 4, 4, 2), 0.5), LPS, "labels")
    files = write_series(tmp_path / "series", np.zeros((4, 4, 2), np.int16), LPS)
    for wrong, message in (
        (scan, "not labels"),
        (scan.like(scan.array * np.nan), "not labels"),
        (scan.like(scan.array * 4), r"no name for the labels \[2\]"),
        (Scan(scan.array * 2, np.diag([-1, -1, 1.1, 1])), "expected one grid"),
        (Scan(scan.array[:, :3] * 2, LPS), "expected one grid"),
    ):
        with pytest.raises(ValueError, match=message):
            write(wrong, tmp_path / "a.dcm", series=files, names={1: "a"})
    with pytest.raises(ValueError, match="float16"):
        write(scan.like(scan.array.astype(np.float16)), tmp_path / "a.nii")
    with pytest.raises(ValueError, match="right angles"):
        write(Scan(scan.array, np.eye(4) + np.eye(4, k=1) * [0, 0.5, 0, 0]), tmp_path / "a.mha")
    with pytest.raises(ValueError, match="unknown suffix"):
        write(scan, tmp_path / "a.doc")
    assert [path.name for path in tmp_path.iterdir()] == ["series"]


def test_unknown_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.nii"):
        read(tmp_path / "gone.nii")
    (tmp_path / "a.doc").write_text("text")
    with pytest.raises(ValueError, match=r"a\.doc: unknown format; expected one of \.nii\.gz"):
        read(tmp_path / "a.doc")
    with pytest.raises(ValueError, match="no DICOM image"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modality": 5}, r"modality=5; expected one name such as 't1', or one for each channel"),
        ({"modality": ["t1", 2]}, r"modality=\['t1', 2\]; expected one name"),
        ({"modality": ["t1", "t2"]}, r"a\.nii: 1 channel\(s\) for the 2 name\(s\) given; expected a name for each"),
        ({"volume": "x"}, r"volume='x'; expected a number from 0"),
        ({"volume": -1}, r"volume=-1; expected a number from 0"),
    ],
)
def test_arguments_of_another_kind_are_no_damage_of_the_file(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    path = write(Scan(np.zeros((2, 3, 4)), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(ValueError, match=message):
        read(path, **options)
    with pytest.raises(ValueError, match="an image without an affine"):
        read(nibabel.Nifti1Image(np.zeros((2, 3, 4)), None))
    with pytest.raises(ValueError, match="an empty path"):
        read("")


def test_a_folder_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "a.nii").mkdir()
    with pytest.raises(ValueError, match=r"a\.nii: a folder; expected the name of a file to write"):
        write(Scan(np.zeros((2, 3, 4)), np.eye(4)), tmp_path / "a.nii")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ["x"]}, r"a\.dcm: got names=\['x'\]; expected a text for each label"),
        ({"names": {1: None}}, r"got names=\{1: None\}; expected a text for each label"),
        ({"series": []}, r"got series=\[\]; expected the folder or the files of a DICOM series"),
        ({"series": "nowhere"}, r"got series='nowhere'; expected the folder or the files"),
    ],
)
def test_segmentations_need_names_and_a_series(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    scan = Scan(np.ones((2, 3, 4), np.uint8), np.eye(4), "labels")
    with pytest.raises(ValueError, match=message):
        write(scan, tmp_path / "a.dcm", **{"series": tmp_path, "names": {1: "x"}, **options})
