"""The result of an evaluation: metrics, facts about the run, and figures; on disk `metrics.json` and `figures/`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import PIL.Image

from meddiffusers.evaluation.results import Metric
from meddiffusers.utils.atomic import write_json
from meddiffusers.utils.reading import FileContentError, read_json


@dataclass(frozen=True)
class Report:
    """Metrics of one evaluation.

    Args:
        metrics: What tables and cards show. Each key occurs once.
        run: How the metrics were measured: seed, hardware, training minutes.
        details: Everything else, as JSON.
        figures: Plots and panels of images, by caption.

    Raises:
        ValueError: A key occurs twice.
    """

    metrics: Sequence[Metric]
    run: Mapping[str, Any]
    details: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, PIL.Image.Image] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counts = Counter(metric.key for metric in self.metrics)
        if twice := [key for key, count in counts.items() if count > 1]:
            raise ValueError(f"Metric keys {', '.join(twice)} occur more than once; expected each once.")

    @property
    def values(self) -> dict[str, float]:
        """The values of all metrics, by key."""
        return {metric.key: metric.value for metric in self.metrics}

    def metric(self, key: str) -> Metric:
        """The metric with this key.

        Raises:
            KeyError: There is none; the message lists the keys of the report.
        """
        metrics = {metric.key: metric for metric in self.metrics}
        if key not in metrics:
            raise KeyError(f"No metric {key!r} in the report. It has: {', '.join(metrics)}.")
        return metrics[key]

    def value(self, key: str) -> float:
        """The value of the metric with this key; raises `KeyError` as `metric` does."""
        return self.metric(key).value

    def save(self, folder: Path) -> Path:
        """Write `metrics.json` and `figures/N.png`; the JSON comes last, so that it never names a missing figure.

        Returns:
            The path of `metrics.json`.
        """
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        paths = {caption: f"figures/{number}.png" for number, caption in enumerate(self.figures)}
        for caption, figure in self.figures.items():
            figure.save(folder / paths[caption], optimize=True)
        metrics = [asdict(metric) for metric in self.metrics]
        content = {"metrics": metrics, "run": dict(self.run), "details": dict(self.details), "figures": paths}
        write_json(folder / "metrics.json", content)
        return folder / "metrics.json"

    @classmethod
    def read(cls, folder: Path) -> Report:
        """Read the report that `save` wrote to a folder.

        Raises:
            FileNotFoundError: The folder holds no `metrics.json`.
        """
        file = folder / "metrics.json"
        if not file.is_file():
            raise FileNotFoundError(f"No metrics.json in {folder}. Evaluate the model first, then write its card.")
        content = read_metrics(folder)
        figures = {caption: _read_image(folder / path) for caption, path in content["figures"].items()}
        return cls([Metric(**metric) for metric in content["metrics"]], content["run"], content["details"], figures)

    def with_spread(self, others: Sequence[Report]) -> Report:
        """This report with the range of each metric over several training runs with the same configuration.

        Args:
            others: Reports of the other runs. A metric that some runs lack gets the range over those that have it.

        Returns:
            The report, with the values of all runs by key in `details["per_run"]`; itself if there are no others.
        """
        runs = [self, *others]
        if len(runs) == 1:
            return self
        tables = [run.values for run in runs]
        metrics, per_run = [], {}
        for metric in self.metrics:
            values = per_run[metric.key] = [table[metric.key] for table in tables if metric.key in table]
            spread = f"{len(values)} runs, mean {np.mean(values):.4g}"
            metrics.append(replace(metric, low=float(min(values)), high=float(max(values)), spread=spread))
        run = {**self.run, "seeds": [run.run["seed"] for run in runs]}
        return replace(self, metrics=metrics, run=run, details={**self.details, "per_run": per_run})


def read_metrics(folder: Path) -> dict[str, Any]:
    """The content of `metrics.json` in a folder, checked: metrics, run, details and figures.

    Raises:
        FileContentError: It is damaged.
    """
    file = folder / "metrics.json"
    content = read_json(file)
    sections = {"metrics": list, "run": dict, "details": dict, "figures": dict}
    if set(content) != set(sections) or any(not isinstance(content[name], kind) for name, kind in sections.items()):
        raise FileContentError(file, f"does not hold {', '.join(sections)} and nothing else. Evaluate the model again.")
    if damaged := [entry for entry in content["metrics"] if not _is_metric(entry)]:
        names = ", ".join(get_type_hints(Metric))
        raise FileContentError(file, f"has the metric {str(damaged[0])[:80]}; expected {names}. Restore it.")
    outside = [path for path in content["figures"].values() if not re.fullmatch(r"figures/[\w-]+\.png", str(path))]
    if outside:
        raise FileContentError(file, f"names the figure {outside[0]}, expected figures/NAME.png. Restore it.")
    return content


def _is_metric(entry: Any) -> bool:
    """Whether an entry of `metrics.json` has the fields of a metric, with numbers and texts where they belong."""
    kinds = get_type_hints(Metric)
    if not isinstance(entry, dict) or not kinds.keys() - {"note"} <= entry.keys() <= kinds.keys():
        return False
    return all(isinstance(value, str if kinds[name] is str else int | float) for name, value in entry.items())


def _read_image(path: Path) -> PIL.Image.Image:
    with PIL.Image.open(path) as image:
        return image.copy()
