"""No text of a scan's header is in anything that is written from it: files, panels, segmentations and data sets."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import datasets
import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import pytest
from helpers import planted_identifiers
from helpers.planted_identifiers import ARRAY, MANY, MARK, marks_in

from meddiffusers.data.io import read, write
from meddiffusers.datasets.public import load_scans
from meddiffusers.datasets.public.building import _stored_image

TARGETS = ("a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.mhd", "a.png")


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted") / "series"
    assert planted_identifiers.dicom_series(folder) >= MANY
    data = next(folder.iterdir()).read_bytes()
    assert len({*re.findall(rb"QZ\d{5}", data)}) >= MANY
    return folder


def check_outputs(source: Path, folder: Path) -> None:
    scan = read(source)
    np.testing.assert_array_equal(scan.array[0], ARRAY)
    fields = {name: value for name, value in vars(scan).items() if name != "source"}
    assert not marks_in(repr(fields).encode())
    for name in TARGETS:
        write(scan, folder / "out" / name)
    for file in (folder / "out").iterdir():
        assert not marks_in(file.read_bytes()), file.name


@pytest.mark.slow
def test_dicom(series: Path, tmp_path: Path) -> None:
    check_outputs(series, tmp_path)
    labels = read(series).like((ARRAY > 2000).astype(np.uint8), "labels")
    segmentation = write(labels, tmp_path / "seg.dcm", series=series, names={1: "bright"})
    assert not marks_in(segmentation.read_bytes())
    np.testing.assert_array_equal(read(segmentation).array, labels.array)


@pytest.mark.parametrize(
    ("name", "plant"),
    [
        ("a.nii", planted_identifiers.nifti),
        ("a.nii.gz", planted_identifiers.nifti),
        ("a.nrrd", planted_identifiers.text_header),
        ("a.mha", planted_identifiers.text_header),
        ("a.mhd", planted_identifiers.text_header),
        ("a.hdr", planted_identifiers.analyze),
    ],
)
def test_other_formats(tmp_path: Path, name: str, plant: Callable[[Path], None]) -> None:
    (tmp_path / "in").mkdir()
    plant(tmp_path / "in" / name)
    assert marks_in((tmp_path / "in" / name).read_bytes())
    check_outputs(tmp_path / "in" / name, tmp_path)


@pytest.mark.slow
def test_data_sets_keep_no_text_of_their_files(series: Path, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    for name in ("p1/t1.nii", "p2/t1.nii.gz", "p3/t1.nrrd", "p4/t1.mha"):
        (folder / name).parent.mkdir(parents=True)
        (planted_identifiers.nifti if ".nii" in name else planted_identifiers.text_header)(folder / name)
    (folder / "p5").mkdir()
    (folder / "p5" / "t1").symlink_to(series)
    write(read(series), folder / "p6" / "t1.nii.gz")  # holds nothing to drop, and stays in place
    data = load_scans(folder, test_fraction=0)
    undecoded = data["train"].cast_column("t1", datasets.Nifti(decode=False))
    in_place = {row["subject"] for row in undecoded if row["t1"]["path"]}
    assert in_place == {"p6"}
    data.save_to_disk(tmp_path / "saved")
    for file in (path for path in (tmp_path / "saved").rglob("*") if path.is_file()):
        assert not marks_in(file.read_bytes()), file.name
    for row in datasets.load_from_disk(tmp_path / "saved")["train"]:
        np.testing.assert_array_equal(read(row["t1"], modality="t1").array[0], ARRAY)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_images_of_data_sets_lose_their_texts(tmp_path: Path, suffix: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8), np.uint8)
    image, path = PIL.Image.fromarray(pixels), tmp_path / f"a{suffix}"
    image.save(path)
    assert _stored_image(str(path)) == str(path)
    text, exif = PIL.PngImagePlugin.PngInfo(), PIL.Image.Exif()
    text.add_text("Patient", MARK.format(1))
    exif[0x010E] = MARK.format(2)
    image.save(path, pnginfo=text, exif=exif)
    with PIL.Image.open(path) as before:
        stored = _stored_image(str(path))
        assert marks_in(path.read_bytes())
        assert isinstance(stored, bytes)
        assert not marks_in(stored)
        with PIL.Image.open(BytesIO(stored)) as after:
            np.testing.assert_array_equal(np.asarray(after), np.asarray(before))
