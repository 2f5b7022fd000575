"""What an evaluation leaves: metrics, how they came about, and images; on disk `metrics.json` and `figures/`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from meddiffusers.evaluation.results import Metric
from meddiffusers.utils.atomic import write_json


@dataclass(frozen=True)
class Report:
    """`metrics` for tables and cards; `run`: seed, hardware, command …; `details`: the rest; `images` by caption."""

    metrics: Sequence[Metric]
    run: Mapping[str, Any]
    details: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, PIL.Image.Image] = field(default_factory=dict)

    def value(self, name: str) -> float:
        """The figure of this name.

        Raises:
            KeyError: there is none, with the names there are.
        """
        values = {metric.name: metric.value for metric in self.metrics}
        if name not in values:
            raise KeyError(f"No metric {name!r} in the report. It has: {', '.join(values)}.")
        return values[name]

    def save(self, folder: Path) -> Path:
        """Write `metrics.json` and `figures/N.png` into the folder; the JSON, which names the images, comes last."""
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        paths = {caption: f"figures/{number}.png" for number, caption in enumerate(self.figures)}
        for caption, image in self.figures.items():
            image.save(folder / paths[caption], optimize=True)
        metrics = [asdict(metric) for metric in self.metrics]
        content = {"metrics": metrics, "run": dict(self.run), "details": dict(self.details), "figures": paths}
        write_json(folder / "metrics.json", content)
        return folder / "metrics.json"

    @classmethod
    def read(cls, folder: Path) -> Report:
        """The report saved in a folder.

        Raises:
            FileNotFoundError: the folder holds none.
        """
        file = folder / "metrics.json"
        if not file.is_file():
            raise FileNotFoundError(f"No metrics.json in {folder}. Evaluate the model first, then write its card.")
        content = json.loads(file.read_text(encoding="utf-8"))
        figures = {caption: _read_image(folder / path) for caption, path in content["figures"].items()}
        return cls([Metric(**metric) for metric in content["metrics"]], content["run"], content["details"], figures)

    def with_spread(self, others: Sequence[Report]) -> Report:
        """This report, each figure with its range over this run and others of the same recipe.

        `details["per_run"]` then has the metrics of all runs, by name. A figure that some runs lack has those it has.
        """
        runs = [self, *others]
        if len(runs) == 1:
            return self
        tables = [{metric.name: metric.value for metric in run.metrics} for run in runs]
        metrics, per_run = [], {}
        for metric in self.metrics:
            values = per_run[metric.name] = [table[metric.name] for table in tables if metric.name in table]
            spread = f"{len(values)} runs, mean {np.mean(values):.4g}"
            metrics.append(replace(metric, low=float(min(values)), high=float(max(values)), spread=spread))
        run = {**self.run, "seeds": [run.run["seed"] for run in runs]}
        return replace(self, metrics=metrics, run=run, details={**self.details, "per_run": per_run})


def _read_image(path: Path) -> PIL.Image.Image:
    with PIL.Image.open(path) as image:
        return image.copy()
