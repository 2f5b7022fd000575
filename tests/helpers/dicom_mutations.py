"""Mutate DICOM files: change, remove or exchange elements at any depth, and damage the file meta."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pydicom
from pydicom.filebase import DicomBytesIO

Rng = np.random.Generator
NUMBERS = ("0", "-1", "1", "3", "nan", "inf", "1e38", "-1e38", "99999999", "0,8", "", "1e-300", "2147483648", "abc")
KEYWORDS = (
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel"),
    *("PhotometricInterpretation", "NumberOfFrames", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    *("ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept", "SOPClassUID"),
    *("SeriesInstanceUID", "PixelData", "FrameTime", "ImageType", "PerFrameFunctionalGroupsSequence"),
    *("SharedFunctionalGroupsSequence", "SegmentSequence", "SegmentationType", "DimensionIndexSequence"),
    *("FrameOfReferenceUID", "SOPInstanceUID", "StudyInstanceUID", "Modality", "InstanceNumber"),
)


def change_element(data: bytes, rng: Rng, header: int) -> bytes:
    """Replace the value of a DICOM element by text or a number that it may hold, as stored."""
    dataset = _parse(data)
    places = _places(dataset)
    place, keyword = places[int(rng.integers(len(places)))]
    element = place[keyword]
    if element.VR in ("DS", "IS"):
        values = [NUMBERS[int(rng.integers(len(NUMBERS)))] for _ in range(max(element.VM, 1))]
        kept = [str(each) for each in (element.value if element.VM > 1 else [element.value])]
        mixed = [new if rng.random() < 0.5 else old for new, old in zip(values, kept, strict=False)]
        place[element.tag] = _as_text(element.tag, element.VR, "\\".join(mixed))
    elif element.VR == "US":
        element.value = int(rng.choice([0, 1, 2, 3, 7, 8, 12, 16, 17, 64, 255, 65535, int(rng.integers(0, 65536))]))
    elif element.VR == "SQ":
        element.value = element.value[: int(rng.integers(0, len(element.value) + 1))]
    elif element.VR in ("OB", "OW"):
        element.value = element.value[: 2 * int(rng.integers(0, len(element.value) // 2))]
    else:
        element.value = str(rng.choice(["", "1.2.3", "MR", "RGB", "MONOCHROME1", "PALETTE COLOR", "FRACTIONAL", "x"]))
    return _serialise(dataset)


def remove_element(data: bytes, rng: Rng, header: int) -> bytes:
    dataset = _parse(data)
    places = _places(dataset)
    place, keyword = places[int(rng.integers(len(places)))]
    del place[keyword]
    return _serialise(dataset)


def swap_elements(data: bytes, rng: Rng, header: int) -> bytes:
    """Exchange the values of two elements of one type."""
    dataset = _parse(data)
    places = _places(dataset)
    one, name = places[int(rng.integers(len(places)))]
    alike = [(place, key) for place, key in places if place[key].VR == one[name].VR]
    two, other = alike[int(rng.integers(len(alike)))]
    one[name].value, two[other].value = two[other].value, one[name].value
    return _serialise(dataset)


def change_meta(data: bytes, rng: Rng, header: int) -> bytes:
    """Remove preamble, file meta or transfer syntax, or name another syntax."""
    dataset = _parse(data)
    syntaxes = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5"]
    syntaxes += ["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.1.99", "1.2.3"]
    chosen = int(rng.integers(4))
    if chosen == 0 and data[128:132] == b"DICM":
        return data[132:]
    if chosen == 1 and data[128:132] == b"DICM":
        return data[: 132 + 12] + data[132 + 12 + struct.unpack_from("<I", data, 140)[0] :]
    name = dataset.file_meta.get("TransferSyntaxUID", "1.2.3")
    new = syntaxes[int(rng.integers(len(syntaxes)))].encode().ljust(len(str(name)), b"\0")
    return data.replace(str(name).encode(), new, 1)


def _parse(data: bytes) -> Any:
    return pydicom.dcmread(DicomBytesIO(data), force=True)


def _serialise(dataset: Any) -> bytes:
    stream = DicomBytesIO()
    dataset.save_as(stream, enforce_file_format=False)
    return bytes(stream.getvalue())


def _places(dataset: Any) -> list[tuple[Any, str]]:
    """Known elements, at any depth."""
    found = [(dataset, keyword) for keyword in KEYWORDS if keyword in dataset]
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                found += _places(item)
    return found


def _as_text(tag: Any, kind: str, text: str) -> Any:
    raw = text.encode()
    raw += b" " * (len(raw) % 2)
    return pydicom.dataelem.RawDataElement(tag, kind, len(raw), raw, 0, False, True, True)
