"""Rows of a generator, cached by `datasets`; a damaged cache is named and built again."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
from datasets.io.generator import GeneratorDatasetInputStream

logger = logging.getLogger(__name__)
_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"  # of an Arrow stream; a file without it was cut short


def generated_rows(
    generator: Callable[..., Iterator[dict[str, Any]]], count: int | None = None, **options: Any
) -> datasets.Dataset:
    """Rows as `datasets.Dataset.from_generator` gives them, from the cache only if that is whole.

    Args:
        generator: Generates the rows.
        count: Number of rows; None if it is not known.
        **options: Further arguments of `from_generator`.
    """
    folder = cache_folder(generator, **options)
    damaged = [file for file in folder.glob("*.arrow") if not is_whole(file)]
    for file in damaged:
        if file.name.startswith("cache-"):  # computed from these rows, and computed again when needed
            logger.warning("The cache %s is cut short; it is computed again.", file)
            file.unlink()
    try:
        if any(file.exists() for file in damaged):
            raise ValueError("a file is cut short")
        rows = GeneratorDatasetInputStream(generator=generator, **options).read()
        if count is not None and len(rows) != count:
            raise ValueError(f"{len(rows)} rows instead of {count}")
    except PermissionError:
        raise
    except (ValueError, AttributeError, KeyError, TypeError, OSError) as error:
        if not folder.is_dir():
            raise
        logger.warning("The cache %s is damaged (%s); its rows are generated again.", folder, error)
        shutil.rmtree(folder)
        rows = GeneratorDatasetInputStream(generator=generator, **options).read()
    return rows


def cache_folder(generator: Callable[..., Any], **options: Any) -> Path:
    """The folder in which `datasets` caches the rows of a generator."""
    with tempfile.TemporaryDirectory() as root:  # since the damaged information in the folder would be read
        builder = GeneratorDatasetInputStream(generator=generator, cache_dir=root, **options).builder
        return Path(datasets.config.HF_DATASETS_CACHE, Path(builder.cache_dir).relative_to(root))


def is_whole(file: Path) -> bool:
    """Whether an Arrow file has its end."""
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - len(_END)))
        return stream.read() == _END
