"""Everything that is measured of a latent diffusion model of brain volumes on the covariates of held-out subjects.

| figure | of |
|---|---|
| those of `generation_report` | the middle slices of the three planes, and whether any is of a training volume |
| covariate: r, error, or "read right" | asked against measured value, of `volume_reading` |
| the same, "held-out volumes" | of real ones: no model can do better |
| the same, "from the other covariates" | guessed of these alone: what goes with them anyhow |
| MS-SSIM of pairs | how alike two drawn volumes are, and two held-out ones (Pinaya et al. 2022, table 1) |
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
from meddiffusers.evaluation.results import Metric
from meddiffusers.models.slice_attribute_predictor import SliceAttributePredictor

PAIRS, SHOWN, LEARNT_FROM = 100, 6, 300
SCALES = (0.3, 0.4, 0.3)  # weights of MS-SSIM's scales, of which there are fewer than of photographs
Told = Sequence[Mapping[str, Any]]


def evaluate_volumes(
    images: np.ndarray,
    held_out: np.ndarray,
    known: np.ndarray,
    told: Told,
    known_told: Told,
    reader: SliceAttributePredictor | None,
    *,
    spacing: float,
    dataset: str,
    decoded: np.ndarray | None = None,
    seed: int = 0,
) -> Report:
    """Of drawn volumes (N, X, Y, Z) of the covariates of `held_out` (N, …), in [0, 1]; `known` are training volumes.

    decoded: what the autoencoder makes of `held_out`.
    told, known_told: the covariates of `held_out` and of `known`, in their own units; a covariate that some of them
    lack is not measured. reader: the judge of T1-weighted slices; None: nothing is measured.
    """
    like = evaluate_generation(
        plane_slices(images),
        plane_slices(held_out),
        plane_slices(known),
        PLANES,
        dataset=dataset,
        decoded=None if decoded is None else plane_slices(decoded),
        seed=seed,
    )
    metrics = list(like.metrics)
    if reader is not None:
        learnt = known_told[:LEARNT_FROM]
        read = [measure_volumes(reader, of, spacing) for of in (known[:LEARNT_FROM], images, held_out)]
        metrics += _covariates(read, told, learnt, dataset, seed)
    for name, volumes in (("drawn", images), ("held-out", held_out)):
        metrics.append(_alike(f"MS-SSIM of pairs, {name}", volumes, dataset, seed))
    rows = {
        f"{kind} {plane}": cut[:SHOWN, n] for n, plane in enumerate(PLANES) for kind, cut in _shown(images, held_out)
    }
    title = "Volumes of held-out subjects' covariates, and these subjects"
    figures = {title: panel(rows, ranges=dict.fromkeys(rows, (0.0, 1.0))), **like.figures}
    return Report(metrics, like.run, like.details, figures)


def _covariates(read: Sequence[VolumeMeasurements], told: Told, learnt: Told, dataset: str, seed: int) -> list[Metric]:
    """Of known, drawn and held-out volumes; `learnt` are the covariates of the known ones."""
    known, drawn, held_out = read
    names = [name for name in told[0] if all(row.get(name) is not None for row in (*told, *learnt))]
    told, learnt = ([{name: row[name] for name in names} for row in rows] for rows in (told, learnt))
    metrics = []
    for name in names:
        reading, asked = CovariateEstimator(name, known, [row[name] for row in learnt]), [row[name] for row in told]
        found = {"": reading(drawn), ", held-out volumes": reading(held_out)}
        if name not in COUNTED and not isinstance(asked[0], str):
            found[", from the other covariates"] = _from_the_others(name, learnt, told)
        for note, measured in found.items():
            metrics += _obeyed(name, asked, measured, note, dataset, seed)
    return metrics


def _shown(images: np.ndarray, held_out: np.ndarray) -> list[tuple[str, np.ndarray]]:
    return [("drawn", plane_slices(images[:SHOWN])), ("held-out", plane_slices(held_out[:SHOWN]))]


def _obeyed(name: str, asked: Sequence[Any], measured: np.ndarray, note: str, dataset: str, seed: int) -> list[Metric]:
    """Asked against measured values: r and mean error of numbers, of words the part that is read right."""
    subjects, count = [str(number) for number in range(len(asked))], len(asked)
    if isinstance(asked[0], str):
        right = (measured == np.array(asked)).astype(float)
        low, high = bootstrap_mean_interval(right, subjects, seed)
        return [Metric(f"{name}, read right{note}", float(right.mean()), dataset, count, low, high, OVER_SUBJECTS)]
    numbers, metrics = np.array(asked, float), []
    for figure, statistic in (
        ("r", lambda rows: float(np.corrcoef(numbers[rows], measured[rows])[0, 1])),
        ("error", lambda rows: float(np.abs(numbers[rows] - measured[rows]).mean())),
    ):
        low, high = bootstrap_interval(statistic, subjects, seed)
        value = statistic(np.arange(count))
        metrics.append(Metric(f"{name} {figure}{note}", value, dataset, count, low, high, OVER_SUBJECTS))
    return metrics


def _from_the_others(name: str, known: Told, told: Told) -> np.ndarray:
    """(N,) what linear regression on the other covariates says of one."""
    others = [[{key: row[key] for key in row if key != name} for row in rows] for rows in (known, told)]
    if not others[0][0]:
        return np.full(len(told), np.mean([row[name] for row in known]))
    estimator = make_pipeline(DictVectorizer(sparse=False), LinearRegression())
    return estimator.fit(others[0], [row[name] for row in known]).predict(others[1])


def _diversity(volumes: np.ndarray, seed: int = 0) -> np.ndarray:
    """(PAIRS,) MS-SSIM of random pairs of volumes (N, X, Y, Z) in [0, 1]."""
    random = np.random.default_rng(seed)
    pairs = [random.choice(len(volumes), 2, replace=False) for _ in range(PAIRS)]
    metric = MultiScaleSSIMMetric(spatial_dims=3, data_range=1.0, kernel_size=7, weights=SCALES)
    one, other = (torch.from_numpy(volumes[[pair[n] for pair in pairs]])[:, None] for n in range(2))
    each: list[Any] = [metric(a[None], b[None]) for a, b in zip(one, other, strict=True)]
    return torch.cat([value.flatten() for value in each]).numpy()


def _alike(name: str, volumes: np.ndarray, dataset: str, seed: int) -> Metric:
    values = _diversity(volumes, seed)
    low, high = bootstrap_mean_interval(values, [str(number) for number in range(PAIRS)], seed)
    return Metric(name, float(values.mean()), dataset, PAIRS, low, high, "95 %, pairs")
