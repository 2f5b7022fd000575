"""Brain volumes from covariates: age, and the volume of the ventricles, with fixed noise."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

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
from meddiffusers.pipelines.latent_diffusion_pipeline import LatentDiffusionPipeline

REPOSITORY, PREDICTOR = "ldm-brain-3d", "attribute-predictor-brain"
AGES = (20, 35, 50, 65, 80)
VENTRICLES = (10, 20, 30, 40, 55)  # ml, for a man aged 60
COVARIATES = ("age", "sex", "brain_volume_ml", "ventricular_volume_ml")


def brains_section(checkpoints: Path, num_inference_steps: int = 25) -> Section:
    """Build the section from the model and the attribute predictor in the folder `checkpoints`."""
    start = time.perf_counter()
    pipeline = cast(LatentDiffusionPipeline, load(checkpoints / REPOSITORY))
    pipeline.set_progress_bar_config(disable=True)
    predictor = SliceAttributePredictor.from_pretrained(checkpoints / PREDICTOR).eval()
    by_age = [_covariates(age, "F") for age in AGES]
    by_ventricles = [_covariates(60, "M") | {"ventricular_volume_ml": float(ml)} for ml in VENTRICLES]
    ageing, ventricles = (_generate(pipeline, rows, num_inference_steps) for rows in (by_age, by_ventricles))
    measured = measure_volumes(predictor, ventricles, pipeline.config["spacing"])
    predicted = CovariateEstimator("ventricular_volume_ml", measured, ())(measured)
    targets = [f"{ml} ml" for ml in VENTRICLES]
    return Section(
        key="brains",
        title="Brain volumes from covariates",
        text="T1-weighted volumes of 80 × 96 × 80 voxels of 2 mm, generated from age, sex, brain volume and "
        "ventricular volume. All volumes start from the same noise. An independent predictor, trained on phantoms, "
        "measures the ventricles.",
        figures={
            "A woman's brain at five ages, with the typical volumes for each age": _planes(
                ageing, [f"{age} years" for age in AGES]
            ),
            "A man's brain at 60 years with five ventricular volumes": _planes(ventricles, targets),
        },
        table=[["target ventricular volume", *targets], ["measured, ml", *(f"{ml:.1f}" for ml in predicted)]],
        metrics={
            "correlation of target and measured ventricular volume": float(np.corrcoef(VENTRICLES, predicted)[0, 1])
        },
        seconds=time.perf_counter() - start,
    )


def _covariates(age: int, sex: str) -> dict[str, Any]:
    """Covariates of a typical person."""
    demographics = typical_demographics(float(age), sex)
    return {name: getattr(demographics, name) for name in COVARIATES}


def _generate(
    pipeline: LatentDiffusionPipeline, rows: Sequence[Mapping[str, Any]], num_inference_steps: int
) -> np.ndarray:
    """Volumes (B, X, Y, Z) in [0, 1], all from the same noise."""
    generators = [torch.Generator().manual_seed(1) for _ in rows]
    return pipeline(covariates=rows, num_inference_steps=num_inference_steps, generator=generators).images[..., 0]


def _planes(volumes: np.ndarray, titles: Sequence[str]) -> PIL.Image.Image:
    cuts = plane_slices(volumes)
    rows = {name: cuts[:, i] for i, name in enumerate(PLANES)}
    return panel(rows, {PLANES[0]: list(titles)}, ranges=dict.fromkeys(rows, (0.0, 1.0)))
