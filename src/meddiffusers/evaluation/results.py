"""Records of measurements: metrics with their spread, and bars, the bounds that benchmarks hold metrics to."""

from __future__ import annotations

import operator
import os
import platform
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from meddiffusers.utils.atomic import write_json

_HOLDS = {"<=": operator.le, ">=": operator.ge, "==": operator.eq}


@dataclass(frozen=True)
class Bar:
    """A bound on a measured value: `value op bound`. NaN never holds.

    Args:
        name: What is measured, for tables.
        value: The measured value.
        op: "<=", ">=" or "==".
        bound: The bound.
    """

    name: str
    value: float
    op: str
    bound: float

    @property
    def holds(self) -> bool:
        """Whether the value is within the bound."""
        return bool(_HOLDS[self.op](self.value, self.bound))

    def __str__(self) -> str:
        return f"{'holds' if self.holds else 'FAILS'}  {self.name}: {self.value:.6g} {self.op} {self.bound:g}"

    def as_dict(self) -> dict[str, Any]:
        """The bar as the JSON files store it."""
        bar = {"name": self.name, "value": float(self.value), "op": self.op, "bound": self.bound}
        return {**bar, "holds": self.holds}


@dataclass(frozen=True)
class Metric:
    """One measured value with its spread.

    Args:
        key: Short, stable identifier in snake case, such as "kid" or "dice_whole"; see `metric_key`.
        name: Readable name for tables and cards, such as "KID (EfficientNet-Lite0)", with the unit if there is one.
        type: Metric type in a Hub model index, such as "dice", "mae" or "roc_auc". Empty: the key.
        value: The measured value.
        dataset: The data it was measured on.
        n: Number of images, slices or subjects behind the value.
        low: Lower end of the spread.
        high: Upper end of the spread.
        spread: What the spread is, such as "95 % bootstrap over subjects".
        note: How the value is defined, where the name does not say it.

    Raises:
        ValueError: The key is not in snake case.
    """

    key: str
    name: str
    type: str
    value: float
    dataset: str
    n: int
    low: float
    high: float
    spread: str
    note: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch("[a-z][a-z0-9_]*", self.key):
            raise ValueError(f"Metric key {self.key!r}; expected snake case in ASCII, as `metric_key` makes it.")
        object.__setattr__(self, "type", self.type or self.key)

    @classmethod
    def single(
        cls, key: str, name: str, value: float, dataset: str, n: int, *, type: str = "", note: str = ""
    ) -> Metric:
        """A metric of one run, which has no spread."""
        return cls(key, name, type, float(value), dataset, n, float(value), float(value), "one run", note)


def metric_key(*parts: str) -> str:
    """Join the parts that are not empty to a key in snake case.

    Example:
        >>> metric_key("dice", "whole", "under 150 mm²")
        'dice_whole_under_150_mm2'
    """
    ascii_text = unicodedata.normalize("NFKD", "_".join(filter(None, parts))).encode("ascii", "ignore").decode()
    return re.sub("[^a-z0-9]+", "_", ascii_text.lower()).strip("_")


def hardware() -> str:
    """One line with the processor (and its cores) or the GPU, and torch's version."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{_cpu_name()}, {os.cpu_count()} cores"
    return f"{device}, torch {torch.__version__}"


def run_facts(seed: int) -> dict[str, Any]:
    """The facts about a run that every report records: its seed and the hardware."""
    return {"seed": seed, "hardware": hardware()}


def write_results(
    name: str,
    bars: Sequence[Bar],
    *,
    seed: int,
    n: int,
    duration_s: float,
    folder: Path = Path("benchmarks/results"),
    **facts: Any,
) -> Path:
    """Write the results of a benchmark atomically to `<folder>/<name>.json`, and print the bars.

    Args:
        name: Name of the benchmark and of the file.
        bars: The bars it measured.
        seed: The seed it used.
        n: Number of subjects, images or rounds behind the bars.
        duration_s: How long it took, in seconds.
        folder: Folder to write to.
        **facts: Further JSON content.

    Returns:
        The path of the file.
    """
    result = {
        "name": name,
        "seed": seed,
        "n": n,
        "duration_s": round(duration_s, 1),
        "hardware": hardware(),
        **facts,
        "bars": [bar.as_dict() for bar in bars],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    write_json(path, result)
    print("\n".join(map(str, bars)), f"→ {path}", sep="\n")
    return path


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
