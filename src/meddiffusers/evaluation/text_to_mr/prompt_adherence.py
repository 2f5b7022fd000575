"""Do images show what their prompts asked for? A `SliceAttributePredictor` measures them; its own errors are in the metrics.

| figure | of |
|---|---|
| modality | part of the images that are read as the modality asked for |
| volume, r and error | asked against read volume, mm³, of one region, over the images whose prompt names it |
| slice, age | asked against read number |
| sex | part of the images that are read as of that sex, where it is asked for |

Regions count whose mean asked volume exceeds `LARGE` mm³, in at least `ENOUGH` images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
import PIL.Image
import torch
from matplotlib.figure import Figure

from meddiffusers.data.prompts import SliceFacts
from meddiffusers.data.regions import LATERAL_VENTRICLES, REGIONS
from meddiffusers.evaluation.figures.panels import DPI, to_image
from meddiffusers.evaluation.metrics.bootstrap import OVER_SUBJECTS, bootstrap_interval
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.results import Metric, run_facts
from meddiffusers.models.slice_attribute_predictor import NUMBERS, SliceAttributePredictor

LARGE, ENOUGH = 200.0, 20  # mm³; images
BATCH = 32
VENTRICLES, MEDIAN = "lateral ventricles", "volume r, median region"


@dataclass(frozen=True, eq=False)
class SlicePredictions:
    """What was read of N images: FreeSurfer's label ids (N, H, W), modalities (N,), numbers by name, (N,) each."""

    labels: np.ndarray
    modalities: list[str]
    numbers: dict[str, np.ndarray]


@torch.inference_mode()
def predict_attributes(reader: SliceAttributePredictor, images: np.ndarray) -> SlicePredictions:
    """Of images (N, H, W) in [0, 1]. "male" becomes a probability."""
    ids, names = np.array(reader.config["label_ids"]), list(reader.config["modalities"])
    parts = [
        reader(part[:, None].to(reader.device, reader.dtype))
        for part in torch.from_numpy(np.asarray(images, np.float32)).split(BATCH)
    ]
    numbers = torch.cat([part.numbers for part in parts]).float().cpu()
    numbers[:, -1] = numbers[:, -1].sigmoid()
    return SlicePredictions(
        ids[torch.cat([part.logits.argmax(dim=1) for part in parts]).cpu().numpy()],
        [names[number] for part in parts for number in part.modality_logits.argmax(dim=1).tolist()],
        dict(zip(NUMBERS, numbers.numpy().T, strict=True)),
    )


def evaluate_prompt_adherence(
    asked: Sequence[SliceFacts],
    reading: SlicePredictions,
    subjects: Sequence[str],
    *,
    dataset: str,
    seed: int = 0,
) -> Report:
    """Metrics and a image of what was asked for and what was read; `subjects`: whose facts were asked for.

    Raises:
        ValueError: as many prompts as images are expected; facts whose voxel is not known.
    """
    if len(asked) != len(reading.labels) or any(facts.voxel is None for facts in asked):
        raise ValueError(
            f"Got {len(asked)} prompts of {len(reading.labels)} images; expected one for each, that says the size of "
            "a voxel."
        )
    pairs, numbers = _volumes(asked, reading), reading.numbers
    measured = partial(_metric, subjects=subjects, dataset=dataset, seed=seed)
    right = np.array([facts.modality == read for facts, read in zip(asked, reading.modalities, strict=True)])
    metrics = [measured("modality", _part(right), np.arange(len(asked)))]
    for name in (VENTRICLES, *_large(pairs)):
        rows = np.flatnonzero(pairs[name][0] > 0)
        metrics.append(measured(f"volume r, {name}", _correlation(*pairs[name]), rows))
        metrics.append(measured(f"volume error, {name}, mm³", _error(*pairs[name]), rows))
    for name in ("slice", "age"):
        wanted = np.array([_number(facts, name) for facts in asked])
        rows = np.flatnonzero(~np.isnan(wanted))
        metrics.append(measured(f"{name} r", _correlation(wanted, numbers[name]), rows))
        metrics.append(measured(f"{name} error", _error(wanted, numbers[name]), rows))
    alike = np.array([facts.sex == "M" for facts in asked]) == (numbers["male"] > 0.5)
    metrics.append(measured("sex", _part(alike), np.flatnonzero([facts.sex is not None for facts in asked])))
    known = [metric for metric in metrics if metric is not None]
    rs = [metric.value for metric in known if metric.name in {f"volume r, {name}" for name in _large(pairs)}]
    if rs:
        rs = np.nan_to_num(rs).tolist()  # a region that is never found follows nothing
        median = float(np.median(rs))
        known.append(Metric(MEDIAN, median, dataset, len(rs), min(rs), max(rs), "least and greatest of the regions"))
    return Report(known, run_facts(seed), {}, {"Asked and read volumes, mm³": _figure(pairs)})


def _metric(
    name: str,
    statistic: Callable[[np.ndarray], float],
    rows: np.ndarray,
    subjects: Sequence[str],
    dataset: str,
    seed: int,
) -> Metric | None:
    """Of a function of row numbers; None where there are too few rows."""
    if len(rows) < ENOUGH:
        return None
    low, high = bootstrap_interval(lambda drawn: statistic(rows[drawn]), [subjects[row] for row in rows], seed)
    return Metric(name, statistic(rows), dataset, len(rows), low, high, OVER_SUBJECTS)


def _volumes(asked: Sequence[SliceFacts], reading: SlicePredictions) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Asked and read mm³ (N,) of each region by name, and of the lateral ventricles together."""
    edges = [facts.voxel for facts in asked]
    voxel = np.array([prod(each) for each in edges if each is not None])
    groups: dict[str, tuple[int, ...]] = {VENTRICLES: LATERAL_VENTRICLES}
    groups |= {REGIONS[label]: (label,) for label in sorted({label for facts in asked for label in facts.volumes})}
    return {
        name: (
            np.array([float(sum(facts.volumes.get(label, 0) for label in labels)) for facts in asked]),
            np.isin(reading.labels, labels).sum(axis=(1, 2)) * voxel,
        )
        for name, labels in groups.items()
    }


def _large(pairs: dict[str, tuple[np.ndarray, np.ndarray]]) -> list[str]:
    return [
        name
        for name, (wanted, _) in pairs.items()
        if name != VENTRICLES and wanted.any() and wanted[wanted > 0].mean() > LARGE
    ]


def _number(facts: SliceFacts, name: str) -> float:
    value: Any = {"slice": facts.number, "age": facts.age}[name]
    return np.nan if value is None else float(value)


def _correlation(wanted: np.ndarray, found: np.ndarray) -> Callable[[np.ndarray], float]:
    """Pearson's r of rows; NaN where one of the two does not vary."""

    def of(rows: np.ndarray) -> float:
        one, other = wanted[rows], found[rows]
        return float(np.corrcoef(one, other)[0, 1]) if one.std() > 0 and other.std() > 0 else np.nan

    return of


def _part(alike: np.ndarray) -> Callable[[np.ndarray], float]:
    """How many of the rows are true."""
    return lambda rows: float(alike[rows].mean())


def _error(wanted: np.ndarray, found: np.ndarray) -> Callable[[np.ndarray], float]:
    """Mean absolute difference of rows."""
    return lambda rows: float(np.abs(wanted[rows] - found[rows]).mean())


def _figure(pairs: dict[str, tuple[np.ndarray, np.ndarray]]) -> PIL.Image.Image:
    """The lateral ventricles' volumes as points, and r of each large region as a bar."""
    figure = Figure(figsize=(10, 5), dpi=DPI, layout="constrained")
    points, bars = figure.subplots(1, 2)
    wanted, found = pairs[VENTRICLES]
    shown = wanted > 0
    end = max(1.0, float(wanted.max()), float(found.max()))
    points.plot((0, end), (0, end), color="0.55", linestyle="--", linewidth=1)
    points.scatter(wanted[shown], found[shown], s=6, color="#1f5fa8")
    points.set(xlabel="asked, mm³", ylabel="read, mm³", title=VENTRICLES)
    names = _large(pairs)
    values = [_correlation(*pairs[name])(np.flatnonzero(pairs[name][0] > 0)) for name in names]
    bars.barh(range(len(names)), values, color="#1f5fa8")
    bars.set_yticks(range(len(names)), names, fontsize=7)
    bars.set(xlim=(0, 1), xlabel="r of asked and read volume")
    bars.invert_yaxis()
    return to_image(figure)
