"""Everything that is measured of a latent diffusion model of brain volumes on the covariates of held-out subjects.

| figure | of |
|---|---|
| those of `generation_report` | the middle slices of the three planes, and whether any is of a training volume |
| covariate: r, error | asked against measured value, of `volume_reading`; "sex": part that is read right |
| the same, "held-out volumes" | of real ones: no model can do better |
| MS-SSIM of pairs | how alike two drawn volumes are, and two held-out ones (Pinaya et al. 2022, table 1) |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.metrics.regression import MultiScaleSSIMMetric

from meddiffusers.evaluation.bootstrap import OVER_SUBJECTS, bootstrap_interval, bootstrap_mean_interval
from meddiffusers.evaluation.generation_report import evaluate_generation
from meddiffusers.evaluation.panels import panel
from meddiffusers.evaluation.report import Report
from meddiffusers.evaluation.results import Metric
from meddiffusers.evaluation.volume_reading import read_volumes
from meddiffusers.evaluation.volume_slices import PLANES, plane_slices
from meddiffusers.models.picture_reader import PictureReader

MEASURED = ("ventricular_volume_ml", "brain_volume_ml", "age")
PAIRS, SHOWN = 100, 6
SCALES = (0.3, 0.4, 0.3)  # weights of MS-SSIM's scales, of which there are fewer than of photographs


def evaluate_volumes(
    images: np.ndarray,
    held_out: np.ndarray,
    known: np.ndarray,
    told: Sequence[Mapping[str, Any]],
    reader: PictureReader | None,
    *,
    spacing: float,
    dataset: str,
    seed: int = 0,
) -> Report:
    """Of drawn volumes (N, X, Y, Z) of the covariates of `held_out` (N, …), in [0, 1]; `known` are training volumes.

    told: the covariates, in their own units. reader: the judge of T1-weighted slices; None: nothing is measured.
    """
    like = evaluate_generation(
        plane_slices(images), plane_slices(held_out), plane_slices(known), PLANES, dataset=dataset, seed=seed
    )
    metrics = list(like.metrics)
    if reader is not None:
        for name, volumes in (("", images), (", held-out volumes", held_out)):
            metrics += _obeyed(read_volumes(reader, volumes, spacing), told, name, dataset, seed)
    for name, volumes in (("drawn", images), ("held-out", held_out)):
        metrics.append(_alike(f"MS-SSIM of pairs, {name}", volumes, dataset, seed))
    rows = {
        f"{kind} {plane}": cut[:SHOWN, n] for n, plane in enumerate(PLANES) for kind, cut in _shown(images, held_out)
    }
    title = "Volumes of held-out subjects' covariates, and these subjects"
    pictures = {title: panel(rows, ranges=dict.fromkeys(rows, (0.0, 1.0))), **like.pictures}
    return Report(metrics, like.run, like.details, pictures)


def _shown(images: np.ndarray, held_out: np.ndarray) -> list[tuple[str, np.ndarray]]:
    return [("drawn", plane_slices(images[:SHOWN])), ("held-out", plane_slices(held_out[:SHOWN]))]


def _obeyed(
    measured: Mapping[str, np.ndarray], told: Sequence[Mapping[str, Any]], note: str, dataset: str, seed: int
) -> list[Metric]:
    """Figures of each covariate that is both asked for and measured."""
    subjects, metrics = [str(number) for number in range(len(told))], []
    for name in MEASURED:
        if any(row.get(name) is None for row in told):
            continue
        asked, found = np.array([float(row[name]) for row in told]), measured[name]
        for figure, statistic in (
            ("r", lambda rows, a=asked, f=found: float(np.corrcoef(a[rows], f[rows])[0, 1])),
            ("error", lambda rows, a=asked, f=found: float(np.abs(a[rows] - f[rows]).mean())),
        ):
            everything = np.arange(len(asked))
            low, high = bootstrap_interval(statistic, subjects, seed)
            value = statistic(everything)
            metrics.append(Metric(f"{name} {figure}{note}", value, dataset, len(asked), low, high, OVER_SUBJECTS))
    if all(row.get("sex") is not None for row in told):
        right = np.array([row["sex"] == "M" for row in told]) == (measured["male"] > 0)
        low, high = bootstrap_mean_interval(right.astype(float), subjects, seed)
        metrics.append(Metric(f"sex{note}", float(right.mean()), dataset, len(right), low, high, OVER_SUBJECTS))
    return metrics


def _alike(name: str, volumes: np.ndarray, dataset: str, seed: int) -> Metric:
    """MS-SSIM of random pairs of volumes."""
    random = np.random.default_rng(seed)
    pairs = [random.choice(len(volumes), 2, replace=False) for _ in range(PAIRS)]
    one, other = (torch.from_numpy(volumes[[pair[n] for pair in pairs]])[:, None] for n in range(2))
    metric = MultiScaleSSIMMetric(spatial_dims=3, data_range=1.0, kernel_size=7, weights=SCALES)
    each: list[Any] = [metric(a[None], b[None]) for a, b in zip(one, other, strict=True)]
    values = torch.cat([value.flatten() for value in each]).numpy()
    low, high = bootstrap_mean_interval(values, [str(number) for number in range(PAIRS)], seed)
    return Metric(name, float(values.mean()), dataset, PAIRS, low, high, "95 %, pairs")
