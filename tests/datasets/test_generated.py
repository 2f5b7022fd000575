"""Cached rows of a generator: read from a whole cache, generated again in place of a damaged one, with a word."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest

from meddiffusers.datasets.generated import cache_folder, generated_rows

CALLS: list[int] = []
COUNT = 40


def generate(version: int) -> Iterator[dict[str, Any]]:
    CALLS.append(version)
    yield from ({"value": index + version} for index in range(COUNT))


def negative(row: dict[str, Any]) -> dict[str, Any]:
    return {"value": -row["value"]}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    CALLS.clear()
    return tmp_path / "cache"


def rows() -> datasets.Dataset:
    return generated_rows(generate, COUNT, gen_kwargs={"version": 3})


def test_a_whole_cache_is_read(caplog: pytest.LogCaptureFixture) -> None:
    assert rows()["value"][:] == rows()["value"][:] == list(range(3, COUNT + 3))
    assert CALLS == [3] and caplog.text == ""
    assert Path(rows().cache_files[0]["filename"]).parent == cache_folder(generate, gen_kwargs={"version": 3})


@pytest.mark.parametrize("kept", [0, 1, 8, 0.5, -1, -8])
def test_rows_that_were_cut_short_are_generated_again(kept: float, caplog: pytest.LogCaptureFixture) -> None:
    file = Path(rows().cache_files[0]["filename"])
    size = file.stat().st_size
    os.truncate(file, int(kept * size) if 0 < kept < 1 else int(kept if kept >= 0 else size + kept))
    with caplog.at_level(logging.WARNING):
        assert rows()["value"][:] == list(range(3, COUNT + 3))
    assert CALLS == [3, 3] and f"The cache {file.parent} is damaged" in caplog.text
    assert rows()["value"][-1] == COUNT + 2 and CALLS == [3, 3]


@pytest.mark.parametrize("text", ["", "{", "[]", None])
def test_rows_of_a_damaged_description_are_generated_again(text: str | None) -> None:
    info = Path(rows().cache_files[0]["filename"]).with_name("dataset_info.json")
    info.write_text(info.read_text().replace(f'"num_examples":{COUNT}', '"num_examples":9') if text is None else text)
    assert len(rows()) == COUNT and len(rows()) == COUNT and len(CALLS) <= 2


def test_what_was_computed_from_the_rows_is_computed_again(caplog: pytest.LogCaptureFixture) -> None:
    file = Path(rows().map(negative).cache_files[0]["filename"])
    os.truncate(file, file.stat().st_size // 2)
    with caplog.at_level(logging.WARNING):
        assert rows().map(negative)["value"][:] == list(range(-3, -COUNT - 3, -1))
    assert CALLS == [3] and f"The cache {file} is cut short; it is computed again" in caplog.text


def test_an_error_of_the_generator_is_its_own() -> None:
    with pytest.raises(datasets.exceptions.DatasetGenerationError):
        generated_rows(generate, COUNT, gen_kwargs={"version": "x"})
