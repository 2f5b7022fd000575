"""Scans with identifiers in every text that their format can hold, each with a mark of its own."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from helpers.dicom_series import write_series
from pydicom.datadict import DicomDictionary
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from meddiffusers.data.io import write
from meddiffusers.data.scan import Scan

MARK = "QZ{:05}"  # fits into the shortest text of DICOM that is planted
PATTERN = re.compile(rb"QZ\d{3}|Q\0Z\0\d", re.IGNORECASE)
TEXTS = ("AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UR", "UT")
NEEDED = ("PhotometricInterpretation", "SpecificCharacterSet")
MANY = 762
ARRAY = np.random.default_rng(0).integers(0, 4000, (6, 5, 4)).astype(np.int16)
AFFINE = np.diag([-0.8, -0.9, 3, 1])


def marks_in(data: bytes) -> set[bytes]:
    """Marks in bytes, also in those that are compressed within them."""
    found = {*PATTERN.findall(data)}
    for magic in (b"\x1f\x8b\x08", b"\x78\x9c", b"\x78\xda", b"\x78\x5e", b"\x78\x01"):
        for place in re.finditer(re.escape(magic), data):
            try:
                found |= {*PATTERN.findall(zlib.decompressobj(47).decompress(data[place.start() :]))}
            except zlib.error:
                continue
    return found


def dicom_series(folder: Path) -> int:
    """Write a series with a mark in every text element, private ones, nested ones and the preamble; their number."""
    count = 0
    for file in write_series(folder, ARRAY, AFFINE):
        dataset, count = pydicom.dcmread(file), 0
        for tag, (kind, _, _, _, keyword) in DicomDictionary.items():
            if kind in TEXTS and keyword and keyword not in NEEDED and tag >> 16 > 2:
                count += 1
                _plant(dataset, tag, kind, count)
        item = pydicom.Dataset()
        for nested in (dataset, item):
            block = nested.private_block(0x0029, "QZ00000 CREATOR", create=True)
            block.add_new(1, "LO", MARK.format(99_999))
        for keyword in ("PatientName", "OperatorsName", "PatientComments", "FrameComments", "TextValue"):
            _plant(item, int(Tag(keyword)), "LT", count := count + 1)
        dataset.RequestAttributesSequence = [item]
        dataset.ReferencedStudySequence = [item]
        dataset.file_meta.SourceApplicationEntityTitle = MARK.format(99_998)
        dataset.file_meta.ImplementationVersionName = MARK.format(99_997)
        dataset.preamble = MARK.format(99_996).encode().ljust(128, b"\0")
        dataset.save_as(file)
    return count


def nifti(path: Path) -> None:
    """Write NIfTI with a mark in every text, many extensions, and a name stored by gzip if compressed."""
    image: Any = nibabel.Nifti1Image(ARRAY, AFFINE)
    for number, field in enumerate(("data_type", "db_name", "descrip", "aux_file", "intent_name")):
        image.header[field] = MARK.format(number).encode()
    for number in range(MANY):
        code = (0, 4, 6, 8)[number % 4]
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension(code, MARK.format(number).encode()))
    data = image.to_bytes()
    if path.suffix == ".gz":
        with path.open("wb") as file, gzip.GzipFile(MARK.format(77_777), "wb", fileobj=file) as packed:
            packed.write(data)
    else:
        path.write_bytes(data)


def text_header(path: Path) -> None:
    """Write .nrrd, .mha or .mhd with many comments and keys."""
    write(Scan(ARRAY, AFFINE), path)
    data = path.read_bytes()
    if path.suffix == ".nrrd":
        lines = [f"# {MARK.format(number)}\nkey {number}:={MARK.format(number)}\n" for number in range(MANY)]
        extra = "".join(lines) + f'content: {MARK.format(0)}\nlabels: "{MARK.format(1)}" "" ""\n'
        data = data.replace(b"\ntype:", b"\n" + extra.encode() + b"type:", 1)
    else:
        fields = "".join(f"Key{number} = {MARK.format(number)}\n" for number in range(MANY))
        fields += f"Comment = {MARK.format(1)}\nName = {MARK.format(2)}\nModality = {MARK.format(3)}\n"
        data = data.replace(b"ElementType", fields.encode() + b"ElementType", 1)
    path.write_bytes(data)


def analyze(path: Path) -> None:
    """Write .hdr and .img with a mark in every text."""
    nibabel.save(nibabel.AnalyzeImage(ARRAY, AFFINE), path)
    data = bytearray(path.with_suffix(".hdr").read_bytes())
    for start, size in ((4, 10), (14, 18), (148, 80), (228, 24), (268, 10), (278, 10), (288, 10), (298, 10), (308, 10)):
        data[start : start + size] = MARK.format(start).encode().ljust(size, b"\0")
    path.with_suffix(".hdr").write_bytes(data)


def _plant(dataset: Any, tag: int, kind: str, number: int) -> None:
    text = MARK.format(number).encode() + b" "
    dataset[Tag(tag)] = RawDataElement(Tag(tag), kind, len(text), text, 0, False, True, True)
