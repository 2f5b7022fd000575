"""Small valid files of every format that is read, with their voxels, for mutations."""

from __future__ import annotations

import bz2
import gzip
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import highdicom
import nibabel
import numpy as np
import pydicom
import SimpleITK
from helpers.dicom_series import write_series
from nibabel.affines import from_matvec
from pydicom.uid import RLELossless, generate_uid
from scipy.spatial.transform import Rotation

from meddiffusers.data.io import read, write
from meddiffusers.data.scan import Scan

SHAPE = (7, 6, 5)


@dataclass(frozen=True)
class Original:
    """A valid file or series.

    Attributes:
        name: of the kind.
        files: content by name; mutations change any of them.
        opened: name of the file that is read; "" for the folder.
        header: bytes of the first file that are its header, where a format has a fixed one.
    """

    name: str
    files: dict[str, bytes]
    opened: str
    header: int = 0


def originals(folder: Path) -> list[Original]:
    """Write valid files into a folder, and return them."""
    rng = np.random.default_rng(0)
    matrix = Rotation.from_euler("xyz", (8, -5, 12), degrees=True).as_matrix() * (-0.8, -0.9, 2.5)
    affine = from_matvec(matrix, (31.5, 42.25, -17.75))
    scan = Scan(rng.integers(-900, 900, SHAPE).astype(np.int16), affine)
    digits = random.Random(0)
    with mock.patch("secrets.randbelow", lambda most: digits.randrange(most // 10, most)):  # of new UIDs
        return [*_nifti(scan, folder), *_itk(scan, folder), *_dicom(scan, folder)]


def _nifti(scan: Scan, folder: Path) -> list[Original]:
    array, affine = scan.array[0], scan.affine
    one: Any = nibabel.Nifti1Image(array, affine)
    one.set_sform(affine, 1)
    one.set_qform(affine, 1)
    one.header.set_xyzt_units("mm", "sec")
    only_qform = nibabel.Nifti1Image(array, None, one.header)
    only_qform.set_sform(None, 0)
    frames: Any = nibabel.Nifti1Image(np.stack([array, array + 1, array // 2], axis=-1), affine)
    frames.header.set_xyzt_units("mm", "msec")
    found = {
        "nifti1.nii": (one, 348),
        "qform.nii": (only_qform, 348),
        "frames.nii.gz": (frames, 0),
        "nifti2.nii": (nibabel.Nifti2Image(array, affine), 540),
        "pair1.hdr": (nibabel.Nifti1Pair(array, affine, one.header), 348),
        "pair2.img": (nibabel.Nifti2Pair(array, affine), 540),
        "analyze.hdr": (nibabel.Spm2AnalyzeImage(array, np.diag([-2.0, 1.5, 3, 1])), 348),
    }
    kinds = []
    for name, (image, header) in found.items():
        place = folder / name.partition(".")[0]
        place.mkdir(parents=True)
        nibabel.save(image, place / name)
        kinds.append(_original(place, name, header))
    return kinds


def _itk(scan: Scan, folder: Path) -> list[Original]:
    kinds = []
    for name in ("packed.mha", "packed.nrrd"):
        write(scan, folder / "packed" / name)
        kinds.append(Original(name, {name: (folder / "packed" / name).read_bytes()}, name))
    image = SimpleITK.ReadImage(str(folder / "packed" / "packed.mha"))
    vector = SimpleITK.Compose(image, image + 1)
    for name, picture in (("raw.mha", image), ("raw.nrrd", vector), ("pair.mhd", vector), ("pair.nhdr", image)):
        place = folder / name.replace(".", "-")
        place.mkdir()
        SimpleITK.WriteImage(picture, str(place / name), False)
        kinds.append(_original(place, name))
    raw = (folder / "pair-nhdr" / "pair.nhdr").read_text().rpartition("data file")[0]
    voxels = scan.array[0].tobytes(order="F")
    encoded = {
        "ascii": " ".join(map(str, scan.array[0].ravel(order="F"))).encode() + b"\n",
        "hex": voxels.hex().encode(),
        "bzip2": bz2.compress(voxels),
        "gzip": gzip.compress(voxels, mtime=0),
    }
    for encoding, content in encoded.items():
        header = raw.replace("encoding: raw", f"encoding: {encoding}").strip() + "\n# a comment\nkey:=value\n\n"
        kinds.append(Original(f"{encoding}.nrrd", {f"{encoding}.nrrd": header.encode() + content}, f"{encoding}.nrrd"))
    text = (folder / "raw-mha" / "raw.mha").read_bytes().partition(b"ElementDataFile")[0].decode()
    text = text.replace("BinaryData = True", "BinaryData = False") + "ElementDataFile = LOCAL\n"
    return [*kinds, Original("ascii.mha", {"ascii.mha": text.encode() + encoded["ascii"]}, "ascii.mha")]


def _dicom(scan: Scan, folder: Path) -> list[Original]:
    files = write_series(folder / "series", scan.array[0], scan.affine, seed=1)
    (cine,) = write_series(folder / "cine", scan.array[0][..., :1], scan.affine)
    dataset = pydicom.dcmread(cine)
    frames = np.ascontiguousarray(scan.array[0].T)
    dataset.NumberOfFrames, dataset.FrameTime, dataset.PixelData = len(frames), "40", frames.tobytes()
    dataset.save_as(cine)
    packed = pydicom.dcmread(files[0])
    packed.compress(RLELossless, encoding_plugin="pydicom")
    packed.save_as(folder / "packed.dcm")
    bare = pydicom.dcmread(files[0])
    stream = pydicom.filebase.DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, False
    pydicom.filewriter.write_dataset(stream, bare)
    (folder / "bare.dcm").write_bytes(stream.getvalue())
    datasets = [pydicom.dcmread(file) for file in files]
    enhanced = highdicom.legacy.LegacyConvertedEnhancedMRImage(datasets, generate_uid(), 1, generate_uid(), 1)
    enhanced.save_as(folder / "enhanced.dcm")
    labels = read(folder / "series").like((scan.array > 0).astype(np.uint8) + (scan.array > 500), "labels")
    write(labels, folder / "seg.dcm", series=folder / "series", names={1: "one", 2: "two"})
    for name in ("enhanced", "seg"):
        _date(folder / f"{name}.dcm")
    single = [
        Original(f"{name}.dcm", {f"{name}.dcm": (folder / f"{name}.dcm").read_bytes()}, f"{name}.dcm")
        for name in ("packed", "bare", "enhanced", "seg")
    ]
    return [_original(folder / "series", ""), Original("cine", {"cine.dcm": cine.read_bytes()}, "cine.dcm"), *single]


def _date(path: Path) -> None:
    """Replace the time at which a file was made, so that it is the same each time."""
    dataset = pydicom.dcmread(path)
    times = {"DA": "20200102", "TM": "030405.123456", "DT": "20200102030405.123456"}
    for element in dataset.iterall():
        if element.VR in times and element.value:
            element.value = times[element.VR]
    dataset.save_as(path)


def _original(place: Path, opened: str, header: int = 0) -> Original:
    """The files of a folder, the opened one first."""
    paths = sorted(place.iterdir(), key=lambda path: (path.name != opened, path.name))
    return Original(opened or "series", {path.name: path.read_bytes() for path in paths}, opened, header)
