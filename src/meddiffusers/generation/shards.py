"""Where each sample of a synthetic data set lies: in shards, each a Parquet file that is whole or absent.

A folder of them is a repository for `datasets.load_dataset`. Which samples a shard holds, and which process makes it,
follows from its number alone, so that what was interrupted can go on with as many processes as one likes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from pyarrow import parquet

from meddiffusers.utils.atomic import replacing


@dataclass(frozen=True)
class Shards:
    """`count` samples in files of `size` below a folder.

    Raises:
        ValueError: fewer than one of either.
    """

    folder: Path
    count: int
    size: int

    def __post_init__(self) -> None:
        if self.count < 1 or self.size < 1:
            raise ValueError(f"Got {self.count} samples in shards of {self.size}; expected at least 1 of both.")

    @property
    def number(self) -> int:
        """How many shards there are in the end."""
        return -(-self.count // self.size)

    def path(self, shard: int) -> Path:
        """The file of a shard."""
        return self.folder / "data" / f"train-{shard:05d}-of-{self.number:05d}.parquet"

    def samples(self, shard: int) -> range:
        """The numbers of its samples."""
        return range(shard * self.size, min((shard + 1) * self.size, self.count))

    def missing(self, rank: int = 0, world: int = 1) -> Iterator[int]:
        """Those that process `rank` of `world` has still to make."""
        return (shard for shard in range(rank, self.number, world) if not self.path(shard).is_file())

    def finished(self) -> int:
        """Samples that are there."""
        return sum(len(self.samples(shard)) for shard in range(self.number) if self.path(shard).is_file())

    def write(self, shard: int, rows: Sequence[Mapping[str, Any]], features: datasets.Features) -> None:
        """Write the file of a shard, whole or not at all."""
        columns = {name: [row.get(name) for row in rows] for name in features}
        data = datasets.Dataset.from_dict(columns, features=features)
        with replacing(self.path(shard)) as staged:
            data.to_parquet(staged)

    def rows(self) -> Iterator[dict[str, Any]]:
        """What is said of each sample that is there, without its image and map."""
        for shard in range(self.number):
            if self.path(shard).is_file():
                names = [name for name in parquet.read_schema(self.path(shard)).names if name not in ("image", "mask")]
                yield from parquet.read_table(self.path(shard), columns=names).to_pylist()
