"""How a measured claim is written down: named bars that hold or not, with seed, N, hardware and duration."""

from __future__ import annotations

import operator
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from meddiffusers.utils.atomic import write_json

_HOLDS = {"<=": operator.le, ">=": operator.ge, "==": operator.eq}


@dataclass(frozen=True)
class Bar:
    """A bound that a figure is held to: `value op bound`, op one of "<=", ">=", "==". NaN never holds."""

    name: str
    value: float
    op: str
    bound: float

    @property
    def holds(self) -> bool:
        return bool(_HOLDS[self.op](self.value, self.bound))

    def __str__(self) -> str:
        return f"{'holds' if self.holds else 'FAILS'}  {self.name}: {self.value:.6g} {self.op} {self.bound:g}"

    def as_dict(self) -> dict[str, Any]:
        """The bar as it stands in the JSON files."""
        bar = {"name": self.name, "value": float(self.value), "op": self.op, "bound": self.bound}
        return {**bar, "holds": self.holds}


@dataclass(frozen=True)
class Metric:
    """One measured figure: what, how much, on which data, and its spread from `low` to `high` (`spread`: over what)."""

    name: str
    value: float
    dataset: str
    n: int
    low: float
    high: float
    spread: str
    note: str = ""

    @classmethod
    def single(cls, name: str, value: float, dataset: str, n: int, note: str = "") -> Metric:
        """A figure of one run, which has no spread."""
        return cls(name, float(value), dataset, n, float(value), float(value), "one run", note)


def hardware() -> str:
    """One line: processor or GPU, cores, torch version."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{_cpu_name()}, {os.cpu_count()} cores"
    return f"{device}, torch {torch.__version__}"


def run_facts(seed: int) -> dict[str, Any]:
    """What a report says of how its metrics came about, for a start."""
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
    """Write `<folder>/<name>.json` (whole or not at all), print the bars, return the path."""
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
