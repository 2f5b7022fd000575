"""Prompt adherence: do images show what their prompts describe?

An independent `SliceAttributePredictor` predicts the attributes of the images; its own errors are part of the metrics.

| metric | computed from |
|---|---|
| `modality_accuracy` | fraction of images predicted as the prompt's modality |
| `volume_r_REGION`, `volume_mae_REGION` | target against predicted volume, over the prompts that name the region |
| `volume_r_median` | median of `volume_r_REGION` over the regions |
| `slice_r`, `slice_mae`, `age_r`, `age_mae` | target against predicted number |
| `sex_accuracy` | fraction of images predicted as the prompt's sex, over the prompts that name it |

Regions are evaluated if their mean target volume exceeds `LARGE` mm³ and at least `ENOUGH` prompts name them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod

import numpy as np
import PIL.Image
import torch
from matplotlib.figure import Figure

from meddiffusers.data.prompts import SliceFacts
from meddiffusers.data.regions import LATERAL_VENTRICLES, REGIONS
from meddiffusers.evaluation.figures.panels import DPI, to_image
from meddiffusers.evaluation.metrics.bootstrap import OVER_SUBJECTS, bootstrap_interval
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.results import Metric, metric_key, run_facts
from meddiffusers.models.slice_attribute_predictor import SCALARS, SliceAttributePredictor

LARGE, ENOUGH = 200.0, 20  # mm³; images
BATCH = 32
VENTRICLES, MEDIAN = "lateral ventricles", "volume_r_median"
Pairs = dict[str, tuple[np.ndarray, np.ndarray]]  # by region: target and predicted volumes (B,), mm³


@dataclass(frozen=True, eq=False)
class SlicePredictions:
    """Predicted attributes of B images.

    Args:
        labels: (B, H, W) FreeSurfer label ids.
        modalities: B names.
        numbers: (B,) for each of "slice", "age" and "male", the probability of a male subject.
    """

    labels: np.ndarray
    modalities: list[str]
    numbers: dict[str, np.ndarray]


@torch.inference_mode()
def predict_attributes(predictor: SliceAttributePredictor, images: np.ndarray) -> SlicePredictions:
    """Predict the attributes of images (B, H, W) in [0, 1]."""
    ids, names = np.array(predictor.config["label_ids"]), list(predictor.config["modalities"])
    outputs = [
        predictor(batch[:, None].to(predictor.device, predictor.dtype))
        for batch in torch.from_numpy(np.asarray(images, np.float32)).split(BATCH)
    ]
    numbers = torch.cat([output.scalars for output in outputs]).float().cpu()
    numbers[:, -1] = numbers[:, -1].sigmoid()
    return SlicePredictions(
        ids[torch.cat([output.logits.argmax(dim=1) for output in outputs]).cpu().numpy()],
        [names[index] for output in outputs for index in output.modality_logits.argmax(dim=1).tolist()],
        dict(zip(SCALARS, numbers.numpy().T, strict=True)),
    )


def evaluate_prompt_adherence(
    targets: Sequence[SliceFacts],
    predictions: SlicePredictions,
    subjects: Sequence[str],
    *,
    dataset: str,
    seed: int = 0,
) -> Report:
    """Compare the facts in prompts with the attributes predicted for the generated images.

    Args:
        targets: B facts that the prompts describe.
        predictions: Predictions for the B images.
        subjects: B names, the subject whose facts each prompt describes.
        dataset: Name of the data, for the report.
        seed: Seed of the bootstrap over subjects.

    Raises:
        ValueError: The numbers of prompts and images differ, or facts lack the voxel size.
    """
    if len(targets) != len(predictions.labels) or any(facts.voxel is None for facts in targets):
        raise ValueError(
            f"Got {len(targets)} prompts for {len(predictions.labels)} images; expected one for each image, with the "
            "voxel size."
        )
    pairs, regions = _volumes(targets, predictions), [VENTRICLES]
    regions += _large(pairs)
    metric = partial(_metric, subjects=subjects, dataset=dataset, seed=seed)
    correct = np.array([facts.modality == name for facts, name in zip(targets, predictions.modalities, strict=True)])
    everyone = np.arange(len(targets))
    metrics = [metric("modality_accuracy", "Modality, accuracy", "accuracy", _fraction(correct), everyone)]
    for region in regions:
        rows = np.flatnonzero(pairs[region][0] > 0)
        metrics += _number_metrics(metric, "volume", region, "mm³", *pairs[region], rows)
    for name, unit in (("slice", ""), ("age", "years")):
        target = np.array([_number(facts, name) for facts in targets])
        rows = np.flatnonzero(~np.isnan(target))
        metrics += _number_metrics(metric, name, "", unit, target, predictions.numbers[name], rows)
    same_sex = np.array([facts.sex == "M" for facts in targets]) == (predictions.numbers["male"] > 0.5)
    rows = np.flatnonzero([facts.sex is not None for facts in targets])
    metrics.append(metric("sex_accuracy", "Sex, accuracy", "accuracy", _fraction(same_sex), rows))
    known = [each for each in metrics if each is not None]
    known += _median(known, regions[1:], dataset)
    return Report(known, run_facts(seed), {}, {"Target and predicted volumes in mm³": _figure(pairs)})


def _metric(
    key: str,
    name: str,
    type: str,
    statistic: Callable[[np.ndarray], float],
    rows: np.ndarray,
    *,
    subjects: Sequence[str],
    dataset: str,
    seed: int,
) -> Metric | None:
    """A statistic of row indices with its interval; None for too few rows."""
    if len(rows) < ENOUGH:
        return None
    low, high = bootstrap_interval(lambda resample: statistic(rows[resample]), [subjects[row] for row in rows], seed)
    return Metric(key, name, type, statistic(rows), dataset, len(rows), low, high, OVER_SUBJECTS)


def _number_metrics(
    metric: Callable[..., Metric | None],
    name: str,
    region: str,
    unit: str,
    targets: np.ndarray,
    predictions: np.ndarray,
    rows: np.ndarray,
) -> list[Metric | None]:
    """Pearson's r and mean absolute error of one number."""
    title = name.capitalize() + (f", {region}" if region else "")
    error = "mean absolute error" + (f" [{unit}]" if unit else "")
    r, mae = _correlation(targets, predictions), _mean_absolute_error(targets, predictions)
    return [
        metric(metric_key(name, "r", region), f"{title}, r", "pearsonr", r, rows),
        metric(metric_key(name, "mae", region), f"{title}, {error}", "mae", mae, rows),
    ]


def _median(metrics: Sequence[Metric], regions: Sequence[str], dataset: str) -> list[Metric]:
    """The median of the regions' r; empty if no region has one."""
    keys = {metric_key("volume_r", region) for region in regions}
    rs = np.nan_to_num([each.value for each in metrics if each.key in keys]).tolist()  # no region predicted: r = 0
    if not rs:
        return []
    name, spread = "Volume, median of the regions, r", "minimum and maximum over the regions"
    return [Metric(MEDIAN, name, "pearsonr", float(np.median(rs)), dataset, len(rs), min(rs), max(rs), spread)]


def _volumes(targets: Sequence[SliceFacts], predictions: SlicePredictions) -> Pairs:
    """Target and predicted volumes of each region, and of both lateral ventricles together."""
    voxel = np.array([prod(facts.voxel) for facts in targets if facts.voxel is not None])
    groups: dict[str, tuple[int, ...]] = {VENTRICLES: LATERAL_VENTRICLES}
    groups |= {REGIONS[label]: (label,) for label in sorted({label for facts in targets for label in facts.volumes})}
    return {
        name: (
            np.array([float(sum(facts.volumes.get(label, 0) for label in labels)) for facts in targets]),
            np.isin(predictions.labels, labels).sum(axis=(1, 2)) * voxel,
        )
        for name, labels in groups.items()
    }


def _large(pairs: Pairs) -> list[str]:
    """Single regions whose mean target volume exceeds `LARGE`."""
    return [
        name
        for name, (targets, _) in pairs.items()
        if name != VENTRICLES and targets.any() and targets[targets > 0].mean() > LARGE
    ]


def _number(facts: SliceFacts, name: str) -> float:
    value = {"slice": facts.number, "age": facts.age}[name]
    return np.nan if value is None else float(value)


def _correlation(targets: np.ndarray, predictions: np.ndarray) -> Callable[[np.ndarray], float]:
    """Pearson's r as a function of rows; NaN if targets or predictions are constant."""

    def r(rows: np.ndarray) -> float:
        x, y = targets[rows], predictions[rows]
        return float(np.corrcoef(x, y)[0, 1]) if x.std() > 0 and y.std() > 0 else np.nan

    return r


def _fraction(correct: np.ndarray) -> Callable[[np.ndarray], float]:
    """Fraction of true values as a function of rows."""
    return lambda rows: float(correct[rows].mean())


def _mean_absolute_error(targets: np.ndarray, predictions: np.ndarray) -> Callable[[np.ndarray], float]:
    """Mean absolute error as a function of rows."""
    return lambda rows: float(np.abs(targets[rows] - predictions[rows]).mean())


def _figure(pairs: Pairs) -> PIL.Image.Image:
    """Plot the volumes of the lateral ventricles as points, and r of each large region as a bar."""
    figure = Figure(figsize=(10, 5), dpi=DPI, layout="constrained")
    points, bars = figure.subplots(1, 2)
    targets, predictions = pairs[VENTRICLES]
    shown = targets > 0
    end = max(1.0, float(targets.max()), float(predictions.max()))
    points.plot((0, end), (0, end), color="0.55", linestyle="--", linewidth=1)
    points.scatter(targets[shown], predictions[shown], s=6, color="#1f5fa8")
    points.set(xlabel="target, mm³", ylabel="predicted, mm³", title=VENTRICLES)
    names = _large(pairs)
    values = [_correlation(*pairs[name])(np.flatnonzero(pairs[name][0] > 0)) for name in names]
    bars.barh(range(len(names)), values, color="#1f5fa8")
    bars.set_yticks(range(len(names)), names, fontsize=7)
    bars.set(xlim=(0, 1), xlabel="r of target and predicted volume")
    bars.invert_yaxis()
    return to_image(figure)
