"""What a saved data set keeps of image files: pixels, and nothing that may identify a patient."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from meddiffusers.datasets.public.building import _stored

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 24)).astype(np.uint8)
SECRET = b"Secretname"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def image(path: Path, change: Callable[[bytes], bytes]) -> Path:
    PIL.Image.fromarray(PIXELS).save(path)
    path.write_bytes(change(path.read_bytes()))
    return path


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("a.png", lambda data: data + SECRET),
        ("a.png", lambda data: data[:33] + chunk(b"prVt", SECRET) + data[33:]),
        ("a.png", lambda data: data[:33] + chunk(b"tEXt", b"Name\0" + SECRET) + data[33:]),
        ("a.png", lambda data: data[:-12] + chunk(b"tEXt", b"Name\0" + SECRET) + data[-12:]),
        ("a.png", lambda data: data[:33] + chunk(b"eXIf", SECRET) + data[33:]),
        ("a.jpg", lambda data: data + SECRET),
        ("a.jpg", lambda data: data + SECRET + b"\xff\xd9"),
        ("a.jpg", lambda data: data[:2] + segment(0xFE, SECRET) + data[2:]),
        ("a.jpg", lambda data: data[:2] + segment(0xE9, SECRET) + data[2:]),
        ("a.jpg", lambda data: data[:2] + segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + SECRET) + data[2:]),
    ],
)
def test_texts_of_images_are_dropped(tmp_path: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    stored = _stored(str(image(tmp_path / name, change)))
    assert isinstance(stored, bytes)
    assert SECRET not in stored
    with PIL.Image.open(tmp_path / name) as original, PIL.Image.open(BytesIO(stored)) as kept:
        np.testing.assert_array_equal(np.asarray(kept), np.asarray(original))


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_images_without_texts_stay_in_place(tmp_path: Path, name: str) -> None:
    path = image(tmp_path / name, lambda data: data)
    assert _stored(str(path)) == str(path)
