"""Evaluation of a latent diffusion model of brain volumes on the covariates of held-out subjects.

| metric | computed from |
|---|---|
| those of `fidelity` | the middle slices of the three planes |
| `COVARIATE_r`, `COVARIATE_mae`, `COVARIATE_accuracy` | target against measured value, see `volume_attributes` |
| the same with `_held_out` | measurements of the held-out volumes: an upper bound for every model |
| the same with `_other_covariates` | regression on the target's other covariates: what correlation alone explains |
| `ms_ssim_generated`, `ms_ssim_held_out` | mean MS-SSIM of pairs of volumes (Pinaya et al. 2022, table 1) |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.metrics.regression import MultiScaleSSIMMetric
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline

from meddiffusers.evaluation.figures.orthogonal_slices import PLANES, plane_slices
from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.evaluation.generation.fidelity import evaluate_generation
from meddiffusers.evaluation.generation.volume_attributes import (
    COUNTED,
    CovariateEstimator,
    VolumeMeasurements,
    measure_volumes,
)
from meddiffusers.evaluation.metrics.bootstrap import OVER_SUBJECTS, bootstrap_interval, bootstrap_mean_interval
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.results import Metric, metric_key
from meddiffusers.models.slice_attribute_predictor import SliceAttributePredictor

PAIRS, SHOWN, FITTED_ON = 100, 6, 300
SCALES = (0.3, 0.4, 0.3)  # weights of MS-SSIM's scales; photographs are large enough for five, these volumes for three
Covariates = Sequence[Mapping[str, Any]]
_SOURCES = {"": "", "held-out": ", held-out volumes", "other covariates": ", from the other covariates"}


def evaluate_volumes(
    images: np.ndarray,
    held_out: np.ndarray,
    known: np.ndarray,
    targets: Covariates,
    known_covariates: Covariates,
    predictor: SliceAttributePredictor | None,
    *,
    spacing: float,
    dataset: str,
    decoded: np.ndarray | None = None,
    seed: int = 0,
) -> Report:
    """Evaluate volumes that were generated from the covariates of held-out subjects.

    Args:
        images: Generated volumes (B, X, Y, Z) in [0, 1].
        held_out: Volumes of the held-out subjects, (B, X, Y, Z).
        known: Training volumes (N, X, Y, Z).
        targets: Covariates of `held_out`, in their own units. Covariates that some rows lack are not evaluated.
        known_covariates: Covariates of `known`.
        predictor: Independent predictor for T1-weighted slices; None skips the covariates.
        spacing: Voxel spacing in mm.
        dataset: Name of the data, for the report.
        decoded: Reconstructions of `held_out` by the autoencoder.
        seed: Seed of the intervals and of the pairs.
    """
    fidelity = evaluate_generation(
        plane_slices(images),
        plane_slices(held_out),
        plane_slices(known),
        PLANES,
        dataset=dataset,
        decoded=None if decoded is None else plane_slices(decoded),
        seed=seed,
    )
    metrics = list(fidelity.metrics)
    if predictor is not None:
        fitted_on = known_covariates[:FITTED_ON]
        measured = [measure_volumes(predictor, of, spacing) for of in (known[:FITTED_ON], images, held_out)]
        metrics += _covariate_metrics(measured, targets, fitted_on, dataset, seed)
    for source, volumes in (("generated", images), ("held-out", held_out)):
        metrics.append(_ms_ssim(source, volumes, dataset, seed))
    shown = {"generated": plane_slices(images[:SHOWN]), "held-out": plane_slices(held_out[:SHOWN])}
    rows = {f"{kind} {plane}": cut[:, n] for n, plane in enumerate(PLANES) for kind, cut in shown.items()}
    title = "Volumes generated from held-out subjects' covariates, and the volumes of these subjects"
    figures = {title: panel(rows, ranges=dict.fromkeys(rows, (0.0, 1.0))), **fidelity.figures}
    return Report(metrics, fidelity.run, fidelity.details, figures)


def _covariate_metrics(
    measured: Sequence[VolumeMeasurements], targets: Covariates, known_covariates: Covariates, dataset: str, seed: int
) -> list[Metric]:
    """Metrics from the measurements of training, generated and held-out volumes."""
    known, generated, held_out = measured
    names = [name for name in targets[0] if all(row.get(name) is not None for row in (*targets, *known_covariates))]
    targets, known_covariates = (
        [{name: row[name] for name in names} for row in rows] for rows in (targets, known_covariates)
    )
    metrics = []
    for name in names:
        estimator = CovariateEstimator(name, known, [row[name] for row in known_covariates])
        target = [row[name] for row in targets]
        estimates = {"": estimator(generated), "held-out": estimator(held_out)}
        if name not in COUNTED and not isinstance(target[0], str):
            estimates["other covariates"] = _from_other_covariates(name, known_covariates, targets)
        for source, values in estimates.items():
            metrics += _agreement(name, target, values, source, dataset, seed)
    return metrics


def _agreement(
    name: str, targets: Sequence[Any], values: np.ndarray, source: str, dataset: str, seed: int
) -> list[Metric]:
    """Pearson's r and mean absolute error for numbers, accuracy for categories."""
    subjects, n = [str(number) for number in range(len(targets))], len(targets)
    title = name.replace("_", " ").capitalize()
    if isinstance(targets[0], str):
        correct = (values == np.array(targets)).astype(float)
        low, high = bootstrap_mean_interval(correct, subjects, seed)
        key, full_name = metric_key(name, "accuracy", source), f"{title}, accuracy{_SOURCES[source]}"
        return [Metric(key, full_name, "accuracy", float(correct.mean()), dataset, n, low, high, OVER_SUBJECTS)]
    numbers, metrics = np.array(targets, float), []
    for key, type_, title_, statistic in (
        ("r", "pearsonr", "r", lambda rows: float(np.corrcoef(numbers[rows], values[rows])[0, 1])),
        ("mae", "mae", "mean absolute error", lambda rows: float(np.abs(numbers[rows] - values[rows]).mean())),
    ):
        low, high = bootstrap_interval(statistic, subjects, seed)
        full_key, full_name = metric_key(name, key, source), f"{title}, {title_}{_SOURCES[source]}"
        value = statistic(np.arange(n))
        metrics.append(Metric(full_key, full_name, type_, value, dataset, n, low, high, OVER_SUBJECTS))
    return metrics


def _from_other_covariates(name: str, known: Covariates, targets: Covariates) -> np.ndarray:
    """(B,) linear regression of one covariate on the others, fitted on `known`."""
    others = [[{key: row[key] for key in row if key != name} for row in rows] for rows in (known, targets)]
    if not others[0][0]:
        return np.full(len(targets), np.mean([row[name] for row in known]))
    estimator = make_pipeline(DictVectorizer(sparse=False), LinearRegression())
    return estimator.fit(others[0], [row[name] for row in known]).predict(others[1])


def _ms_ssim(source: str, volumes: np.ndarray, dataset: str, seed: int) -> Metric:
    """Mean MS-SSIM over random pairs of volumes (B, X, Y, Z) in [0, 1]: a measure of diversity."""
    rng = np.random.default_rng(seed)
    pairs = [rng.choice(len(volumes), 2, replace=False) for _ in range(PAIRS)]
    metric = MultiScaleSSIMMetric(spatial_dims=3, data_range=1.0, kernel_size=7, weights=SCALES)
    first, second = (torch.from_numpy(volumes[[pair[n] for pair in pairs]])[:, None] for n in range(2))
    each: list[Any] = [metric(a[None], b[None]) for a, b in zip(first, second, strict=True)]
    values = torch.cat([value.flatten() for value in each]).numpy()
    low, high = bootstrap_mean_interval(values, [str(number) for number in range(PAIRS)], seed)
    key, name = metric_key("ms_ssim", source), f"MS-SSIM of pairs, {source} volumes"
    return Metric(key, name, "ssim", float(values.mean()), dataset, PAIRS, low, high, "95 %, pairs")
