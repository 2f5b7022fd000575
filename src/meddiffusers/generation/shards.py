"""Shards of a synthetic data set: Parquet files that are written atomically.

`datasets.load_dataset` reads the folder. The samples of a shard and the process that writes it follow from its number
alone, so an interrupted run can be resumed with any number of processes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow
from pyarrow import parquet

from meddiffusers.utils.atomic import atomic_path


@dataclass(frozen=True)
class Shards:
    """The shards below a folder.

    Args:
        folder: folder of the data set.
        num_samples: samples in the data set.
        size: samples in one shard.

    Raises:
        ValueError: `num_samples` or `size` is less than one.
    """

    folder: Path
    num_samples: int
    size: int

    def __post_init__(self) -> None:
        if self.num_samples < 1 or self.size < 1:
            raise ValueError(f"Got {self.num_samples} samples in shards of {self.size}; expected at least 1 of each.")

    @property
    def num_shards(self) -> int:
        """Shards of the finished data set."""
        return -(-self.num_samples // self.size)

    def path(self, shard: int) -> Path:
        """Path of a shard."""
        return self.folder / "data" / f"train-{shard:05d}-of-{self.num_shards:05d}.parquet"

    def samples(self, shard: int) -> range:
        """Numbers of the samples in a shard."""
        return range(shard * self.size, min((shard + 1) * self.size, self.num_samples))

    def missing(self, rank: int = 0, world: int = 1) -> Iterator[int]:
        """Shards that process `rank` of `world` has not written yet."""
        return (shard for shard in range(rank, self.num_shards, world) if not self.path(shard).is_file())

    def finished(self) -> int:
        """Number of samples in the shards that exist."""
        return sum(len(self.samples(shard)) for shard in range(self.num_shards) if self.path(shard).is_file())

    def check(self, columns: Collection[str]) -> None:
        """Check that the shards that exist hold the rows of their samples, with these columns.

        Raises:
            ValueError: a shard is damaged, or another data set's.
        """
        for shard in range(self.num_shards):
            if self.path(shard).is_file():
                self._check(shard, columns)

    def _check(self, shard: int, columns: Collection[str]) -> None:
        path = self.path(shard)
        remedy = "Delete it and run the command again, which generates its samples anew, equal to the last bit."
        try:
            held = parquet.read_schema(path).names
            numbers = parquet.read_table(path, columns=["number"] if "number" in held else [])
        except (pyarrow.ArrowException, OSError) as error:
            raise ValueError(f"{path} is damaged: {' '.join(str(error).split())} {remedy}") from error
        expected = list(self.samples(shard))
        if set(held) != set(columns) or numbers.to_pydict().get("number") != expected:
            raise ValueError(
                f"{path} has {numbers.num_rows} rows with the columns {', '.join(held)}; expected the samples "
                f"{expected[0]} to {expected[-1]} with {', '.join(columns)}. {remedy}"
            )

    def write(self, shard: int, rows: Sequence[Mapping[str, Any]], features: datasets.Features) -> None:
        """Write a shard atomically."""
        columns = {name: [row.get(name) for row in rows] for name in features}
        data = datasets.Dataset.from_dict(columns, features=features)
        with atomic_path(self.path(shard)) as staged:
            data.to_parquet(staged)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Rows of the shards that exist, without images and label maps."""
        for shard in range(self.num_shards):
            if self.path(shard).is_file():
                names = [name for name in parquet.read_schema(self.path(shard)).names if name not in ("image", "mask")]
                yield from parquet.read_table(self.path(shard), columns=names).to_pylist()
