"""No patient identifier remains in a scan, a written file or a message."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from helpers.dicom_series import LPS, PATIENT, write_series

from meddiffusers.data.io import read, write
from meddiffusers.data.io.nifti import is_plain
from meddiffusers.data.scan import Scan
from meddiffusers.datasets.public import load_scans

SECRETS = [b"secret", b"sabine", b"19511231"]
ARRAY = np.random.default_rng(0).integers(0, 4000, (6, 5, 4)).astype(np.int16)
AFFINE = LPS @ np.diag([0.8, 0.9, 3, 1])


def check_clean(data: bytes) -> None:
    assert [secret for secret in SECRETS if secret in data.lower()] == []


@pytest.fixture
def series(tmp_path: Path) -> Path:
    write_series(tmp_path / "series", ARRAY, AFFINE)
    return tmp_path / "series"


def test_the_secrets_are_in_the_series(series: Path) -> None:
    data = next(series.iterdir()).read_bytes().lower()
    assert all(secret in data for secret in SECRETS)


@pytest.mark.parametrize("name", ["a.nii", "a.nrrd", "a.mha", "a.png"])
def test_scans_of_dicom_are_clean_and_so_are_their_copies(series: Path, tmp_path: Path, name: str) -> None:
    scan = read(series)
    check_clean(repr(vars(scan)).encode())
    check_clean(write(scan, tmp_path / name).read_bytes())


def test_nifti_texts_are_dropped(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(ARRAY, AFFINE)
    for field, text in (
        ("descrip", b"Secretname Sabine"),
        ("aux_file", b"sabine"),
        ("db_name", b"secret"),
        ("intent_name", b"secret"),
    ):
        image.header[field] = text
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"Secretname 19511231"))
    nibabel.save(image, tmp_path / "in.nii")
    assert b"Secretname" in (tmp_path / "in.nii").read_bytes()
    scan = read(tmp_path / "in.nii")
    check_clean(repr(vars(scan)).encode())
    check_clean(write(scan, tmp_path / "out.nii").read_bytes())


def stream(data: bytes, name: bytes = b"", comment: bytes = b"", extra: bytes = b"") -> bytes:
    """A gzip stream with a name, a comment or a further field."""
    flags = 8 * bool(name) + 16 * bool(comment) + 4 * bool(extra)
    fields = (len(extra).to_bytes(2, "little") + extra) * bool(extra)
    texts = b"".join(text + b"\0" for text in (name, comment) if text)
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(data) + packer.flush()
    ends = zlib.crc32(data).to_bytes(4, "little") + len(data).to_bytes(4, "little")
    return b"\x1f\x8b\x08" + bytes([flags]) + bytes(6) + fields + texts + packed + ends


@pytest.mark.parametrize(
    "pack",
    [
        lambda data: stream(data, name=b"Secretname.nii"),
        lambda data: stream(data, comment=b"Sabine"),
        lambda data: stream(data, extra=b"SECRET"),
        lambda data: stream(data) + stream(b"", name=b"Secretname.nii"),
        lambda data: stream(data) + stream(b"", comment=b"Sabine"),
        lambda data: stream(data[:400]) + stream(data[400:], name=b"Secretname.nii"),
        lambda data: stream(data) + stream(b"") * 3 + stream(b"", extra=b"SECRET"),
        lambda data: stream(b"", name=b"Secretname.nii") + stream(data),
    ],
)
def test_texts_of_gzip_do_not_go_into_a_saved_data_set(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    for number in range(2):
        write(Scan(ARRAY + number, AFFINE), path := tmp_path / "scans" / f"p{number}_t1.nii")
        path.with_suffix(".nii.gz").write_bytes(pack(path.read_bytes()))
        path.unlink()
    assert not is_plain(tmp_path / "scans" / "p0_t1.nii.gz")
    load_scans(tmp_path / "scans").save_to_disk(tmp_path / "saved")
    for file in (tmp_path / "saved").rglob("*.arrow"):
        check_clean(file.read_bytes())


def test_a_file_is_plain_without_anything_but_voxels(tmp_path: Path) -> None:
    write(Scan(ARRAY, AFFINE), path := tmp_path / "a.nii")
    data, packed = path.read_bytes(), tmp_path / "a.nii.gz"
    packed.write_bytes(stream(data))
    assert is_plain(path)
    assert is_plain(packed)
    for other in (stream(data) + b"secret", stream(data) + bytes(8), data, stream(data + b"secret")):
        packed.write_bytes(other)
        assert not is_plain(packed)
    for other in (data + b"secret", stream(data)):
        path.write_bytes(other)
        assert not is_plain(path)


@pytest.mark.slow
def test_a_segmentation_links_to_its_series_but_not_to_the_patient(series: Path, tmp_path: Path) -> None:
    labels = Scan((ARRAY > 2000).astype(np.uint8), AFFINE, "labels")
    path = write(labels, tmp_path / "labels.dcm", series=series, names={1: "bright"})
    check_clean(path.read_bytes())
    segmentation, image = pydicom.dcmread(path), pydicom.dcmread(next(series.iterdir()))
    assert segmentation.StudyInstanceUID == image.StudyInstanceUID
    assert segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID == image.SeriesInstanceUID
    assert segmentation.SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"
    write(labels, path, series=series, names={1: "bright"}, keep_patient=True)
    kept = pydicom.dcmread(path)
    assert (kept.PatientName, kept.PatientID) == (PATIENT["PatientName"], PATIENT["PatientID"])


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("ImagePositionPatient", ["0", "0", "77"]), ("PixelData", b"12"), ("Rows", 9), ("PixelSpacing", ["0", "0"])],
)
def test_messages_are_clean(series: Path, keyword: str, value: object, recwarn: pytest.WarningsRecorder) -> None:
    file = sorted(series.iterdir())[1]
    dataset = pydicom.dcmread(file)
    setattr(dataset, keyword, value)
    dataset.save_as(file)
    recwarn.clear()
    with pytest.raises(ValueError, match="expected") as error:
        read(series)
    check_clean(repr(error.getrepr(chain=True, style="value")).encode())
    check_clean(str(error.value).encode())
    assert error.value.__cause__ is None
    assert not recwarn.list


def test_values_that_a_library_quotes_stay_inside(series: Path) -> None:
    file = next(series.iterdir())
    data = file.read_bytes()
    place = data.index(b"\x18\x00\x50\x00DS")  # slice thickness
    size = data[place + 6]
    file.write_bytes(data[: place + 8] + b"Sabine"[:size].ljust(size) + data[place + 8 + size :])
    with pytest.raises(ValueError, match="expected") as error:
        read(file)
    check_clean(str(error.value).encode())
