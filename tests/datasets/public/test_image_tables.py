"""Folders of images with a metadata.csv or metadata.jsonl."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from meddiffusers.datasets.attribute_images import AttributeImages, load_attribute_images
from meddiffusers.datasets.public.images import load_images
from meddiffusers.datasets.public.splitting import split_by_subject, subjects_of


def folder_of(folder: Path, table: str, count: int = 4, name: str = "metadata.csv") -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    for number in range(count):
        PIL.Image.fromarray(np.full((4, 4), number, np.uint8)).save(folder / f"{number}.png")
    (folder / name).write_text(table)
    return folder


def test_leading_zeros_of_subjects_are_kept_and_make_no_other_subject(tmp_path: Path) -> None:
    name = folder_of(tmp_path / "a", "file_name,patient\n0.png,007\n1.png,008\n2.png,8\n3.png,007\n")
    split = load_images(name, "image")["train"]
    assert subjects_of(split, "set") == ["007", "008", "8", "007"]
    for seed in range(4):
        data = split_by_subject(split, subjects_of(split, "set"), 0.5, seed)
        assert sorted(map(len, data.values())) == [2, 2]
        assert {int(patient) for patient in data["test"]["patient"]} in ({7}, {8})


def test_decimal_commas_become_numbers(tmp_path: Path) -> None:
    table = 'file_name,subject,size\n0.png,1,"1,5"\n1.png,2,"2,5E1"\n2.png,3,"0,5"\n3.png,4,\n'
    data = load_attribute_images(str(folder_of(tmp_path / "a", table)), attributes=["size"], test_fraction=0.25)
    sizes = [size for split in data.values() for size in split["size"]]
    assert sorted(sizes, key=str) == [0.5, 1.5, 25.0, None]
    assert AttributeImages(data["train"], ["size"], "image", 1).attributes.dtype == np.float64


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("sep=,\nfile_name,a\n0.png,1\n", r"metadata\.csv begins with Excel's line sep=,; expected the header in lin"),
        ("file_name,a,a\n0.png,1,2\n", r"metadata\.csv has several columns called a; expected each name once"),
        (
            "file_name,a\n0.png,1\n1.png,2,3\n",
            r"metadata\.csv is no table .* as many cells in each row as in its header",
        ),
        ("file_name,a\n0.png,1\n,2\n", r"metadata\.csv has rows without file_name: 2; expected an image in each"),
        (
            "file_name,a\n0.png,1\n 1.png,2\n",
            r"/ 1\.png: no such file; expected that which the table names, without bl",
        ),
        ("file_name,a\n0.png,1,3\n", r"metadata\.csv has rows with more cells than its header"),
        ("file_name,subject,patient_id\n0.png,1,1\n1.png,2,1\n", r"has the columns subject .* and patient_id "),
    ],
)
def test_tables_that_may_be_misread_are_refused(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_attribute_images(str(folder_of(tmp_path / "a", table)), attributes=[])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            '{"file_name": "../x.png"}',
            r"metadata\.jsonl: the table names '\.\./x\.png'; expected a path below the folder",
        ),
        ('{"file_name": "/etc/passwd"}', r"metadata\.jsonl: the table names '/etc/passwd'"),
        ('{"file_name": "9.png"}', r"metadata\.jsonl names files that do not exist: 9\.png"),
        ('{"file_name": "0.png"', r"metadata\.jsonl, line 1: no JSON; expected an object in each line"),
        ('{"file_name": "0.png"}\n[1]', r"metadata\.jsonl, line 2: a list; expected an object"),
        ('{"file_name": "0.png"}\n{"name": 1}', r"metadata\.jsonl, line 2: no file_name"),
        ("[" * 100_000, r"metadata\.jsonl, line 1: no JSON"),
        (
            '{"file_name": "0.png", "a": 1}\n{"file_name": "1.png", "a": "x"}',
            r"cannot be loaded as a folder of images: row",
        ),
    ],
)
def test_damaged_lines_are_named(tmp_path: Path, lines: str, message: str) -> None:
    name = folder_of(tmp_path / "a", lines, name="metadata.jsonl")
    PIL.Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "x.png")
    with pytest.raises(ValueError, match=message):
        load_images(name, "image")


def test_tables_of_two_kinds_are_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a", "file_name\n0.png\n")
    (folder / "metadata.jsonl").write_text('{"file_name": "0.png"}')
    with pytest.raises(ValueError, match=r"has metadata\.csv and metadata\.jsonl; expected tables of one kind"):
        load_images(folder, "image")


@pytest.mark.parametrize("suffix", ["tif", "gif", "png"])
def test_several_frames_are_refused(tmp_path: Path, suffix: str) -> None:
    folder = folder_of(tmp_path / "a", f"file_name,subject\n0.png,1\nx.{suffix},2\n")
    first, second = (PIL.Image.fromarray(np.full((4, 4), 60 * value, np.uint8)) for value in (1, 2))
    first.save(folder / f"x.{suffix}", save_all=True, append_images=[second])
    with pytest.raises(ValueError, match=rf"x\.{suffix}: 2 frames or pages; expected one image"):
        load_images(folder, "image")


def test_images_of_several_types_and_numbers_of_python_are_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a", "file_name,subject,v\n0.png,1,1\n1.png,2,2\n2.png,3,3\n3.png,4,4\n")
    PIL.Image.fromarray(np.full((4, 4), 999, np.uint16)).save(folder / "2.png")
    with pytest.raises(ValueError, match=r"Images of the types uint16, uint8; expected one"):
        AttributeImages(load_images(folder, "image")["train"], ["v"], "image", 1)
    folder = folder_of(tmp_path / "b", "file_name,subject,v\n0.png,1,1_0\n1.png,2,2\n2.png,3,3\n3.png,4,4\n")
    with pytest.raises(ValueError, match=r"Attribute column 'v' holds '1_0'; expected numbers"):
        AttributeImages(load_images(folder, "image")["train"], ["v"], "image", 1)


def test_images_that_no_row_names_are_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_images(folder_of(tmp_path / "a", "file_name,subject\n0.png,1\n1.png,2\n"), "image")
    assert "no row of a table names 2.png, 3.png: they are left out" in caplog.text


def test_lines_are_read(tmp_path: Path) -> None:
    lines = "".join(f'{{"file_name": "{number}.png", "subject": "00{number}"}}\n' for number in range(4))
    split = load_images(folder_of(tmp_path / "a", lines, name="metadata.jsonl"), "image")["train"]
    assert subjects_of(split, "set") == ["000", "001", "002", "003"]


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"no image", lambda data: b""])
def test_damaged_images_are_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    folder = folder_of(
        tmp_path / "a", "file_name,subject\n" + "".join(f"{number}.png,{number}\n" for number in range(4))
    )
    (folder / "2.png").write_bytes(damage((folder / "2.png").read_bytes()))
    with pytest.raises(ValueError, match=r"2\.png: damaged, cut short or no image; expected one that can be opened"):
        load_images(folder, "image")


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_links_are_files_named_twice(tmp_path: Path, link: Callable[[Path, Path], None]) -> None:
    folder = folder_of(tmp_path / "a", "file_name,subject\n0.png,1\n1.png,2\nlink.png,3\n")
    link(folder / "0.png", folder / "link.png")
    with pytest.raises(ValueError, match=r"names files more than once: .*; expected one row for each image"):
        load_images(folder, "image")


def test_copies_are_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = folder_of(tmp_path / "a", "file_name,subject\n0.png,1\n1.png,2\ncopy.png,3\n")
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    load_images(folder, "image")
    assert "0.png, copy.png have the same content" in caplog.text
