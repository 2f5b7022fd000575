from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from meddiffusers.utils.atomic import atomic_path, write_json, write_text


def test_a_file_appears_whole_and_replaces_the_earlier_one(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.txt"
    for text in ("first", "second"):
        with atomic_path(target) as staged:
            assert (staged.name, staged.exists()) == ("file.txt", False)
            staged.write_text(text)
            assert not target.exists() or target.read_text() == "first"
        assert target.read_text() == text
    assert [path.name for path in target.parent.iterdir()] == ["file.txt"]


def test_a_folder_appears_with_all_its_files(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with atomic_path(target) as staged:
        staged.mkdir()
        (staged / "a").write_text("a")
        assert not target.exists()
        (staged / "b").write_text("b")
    assert sorted(path.name for path in target.iterdir()) == ["a", "b"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("folder", [False, True])
def test_a_failure_leaves_the_target_as_it_was(tmp_path: Path, folder: bool) -> None:
    (tmp_path / "other").write_text("old")
    with (
        pytest.raises(RuntimeError, match="no space"),
        atomic_path(tmp_path / ("folder" if folder else "other")) as staged,
    ):
        if folder:
            staged.mkdir()
        (staged / "a" if folder else staged).write_text("half")
        raise RuntimeError("no space")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    assert (tmp_path / "other").read_text() == "old"


def test_a_folder_that_another_process_wrote_first_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "cache"
    with atomic_path(target) as staged:
        staged.mkdir()
        (staged / "values").write_text("second")
        target.mkdir()
        (target / "values").write_text("first")
    assert (target / "values").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_file_does_not_replace_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError), atomic_path(tmp_path / "folder") as staged:
        staged.write_text("file")
    assert (tmp_path / "folder").is_dir()


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "file"):
        pass
    assert not [*tmp_path.iterdir()]


def test_text_and_json_are_utf_8(tmp_path: Path) -> None:
    write_text(tmp_path / "text", "½ mm³\n")
    assert (tmp_path / "text").read_bytes() == "½ mm³\n".encode()
    write_json(tmp_path / "new" / "content.json", {"a": ["½"]})
    assert json.loads((tmp_path / "new" / "content.json").read_text(encoding="utf-8")) == {"a": ["½"]}
    assert "½" in (tmp_path / "new" / "content.json").read_text(encoding="utf-8")


def test_a_folder_that_cannot_be_written_is_named_by_its_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/a/scratch/path")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    expected = f"[Errno {errno.EACCES}] It cannot be written: Permission denied: '{tmp_path / 'x.npy'}'"
    with pytest.raises(PermissionError) as error:
        write_text(tmp_path / "x.npy", "")
    assert str(error.value) == expected
