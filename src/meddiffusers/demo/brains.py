"""Whole brains of covariates: one noise from young to old, and with ventricles from small to large."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch

from meddiffusers.data.phantoms.brain.demographics import typical_demographics
from meddiffusers.demo.page import Section
from meddiffusers.evaluation.figures.orthogonal_slices import PLANES, plane_slices
from meddiffusers.evaluation.figures.panels import panel
from meddiffusers.evaluation.generation.volume_attributes import CovariateEstimator, measure_volumes
from meddiffusers.hub.load import load
from meddiffusers.models.slice_attribute_predictor import SliceAttributePredictor

REPOSITORY, READER = "ldm-brain-3d", "attribute-predictor-brain"
AGES = (20, 35, 50, 65, 80)
VENTRICLES = (10, 20, 30, 40, 55)  # ml, of a man of 60
COVARIATES = ("age", "sex", "brain_volume_ml", "ventricular_volume_ml")


def brains_section(checkpoints: Path) -> Section:
    """The section; model and reader come from the folder `checkpoints`."""
    start = time.perf_counter()
    pipeline: Any = load(checkpoints / REPOSITORY)
    pipeline.set_progress_bar_config(disable=True)
    reader = SliceAttributePredictor.from_pretrained(checkpoints / READER).eval()
    aged = [_told(age=age, sex="F") for age in AGES]
    swept = [_told(age=60, sex="M") | {"ventricular_volume_ml": float(ml)} for ml in VENTRICLES]
    volumes = [_drawn(pipeline, rows) for rows in (aged, swept)]
    read = measure_volumes(reader, volumes[1], pipeline.config["spacing"])
    ventricles = CovariateEstimator("ventricular_volume_ml", read, ())(read)
    asked = [f"{ml} ml" for ml in VENTRICLES]
    return Section(
        key="brains",
        title="Brains of covariates",
        text="Volumes of 80 × 96 × 80 voxels of 2 mm, drawn of age, sex, brain and ventricular volume. Brains of a row "
        "begin with the same noise. Another network, which has learnt to read phantoms, measures the ventricles.",
        figures={
            "A woman's brain, with the volumes that are usual at her age": _planes(
                volumes[0], [f"{age} years" for age in AGES]
            ),
            "A brain of 60 years with ventricles of another volume": _planes(volumes[1], asked),
        },
        table=[["ventricles", *asked], ["read, ml", *(f"{ml:.1f}" for ml in ventricles)]],
        metrics={"r of asked and read ventricles": float(np.corrcoef(VENTRICLES, ventricles)[0, 1])},
        seconds=time.perf_counter() - start,
    )


def _told(age: int, sex: str) -> dict[str, Any]:
    """Covariates of the likeliest person of an age."""
    person = typical_demographics(float(age), sex)
    return {name: getattr(person, name) for name in COVARIATES}


def _drawn(pipeline: Any, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Volumes (N, X, Y, Z) in [0, 1], all of one noise."""
    generators = [torch.Generator().manual_seed(1) for _ in rows]
    return pipeline(covariates=rows, generator=generators).images[..., 0]


def _planes(volumes: np.ndarray, titles: Sequence[str]) -> PIL.Image.Image:
    cuts = plane_slices(volumes)
    rows = {name: cuts[:, number] for number, name in enumerate(PLANES)}
    return panel(rows, {PLANES[0]: list(titles)}, ranges=dict.fromkeys(rows, (0.0, 1.0)))
