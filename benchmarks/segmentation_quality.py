"""Overlap, false positives, calibration and spread of the shipped ensemble, one member of it, and a supervised U-Net.

Ambiguous are the half of the tumour slices in which the simulated raters dispute the largest area. A second choice,
where they dispute most relative to the size of the lesion, is reported too: mostly lesions of a few pixels.
"""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from supervised_unet import run_supervised, trained_baseline

from meddiffusers import ConditionalSegmentationPipeline
from meddiffusers.datasets.labelled_config import LabelledDataConfig, load_test_split
from meddiffusers.evaluation.results import Bar
from meddiffusers.evaluation.segmentation.report import segmentation_metrics
from meddiffusers.evaluation.segmentation.result import SegmentationResult
from meddiffusers.evaluation.segmentation.run import run_segmentation
from meddiffusers.hub.load import load

DATASET = "phantom, hard, held out"
MEMBERS = 5
GED, AUROC = "ged_samples", "auroc_error_uncertainty"


def quality(checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """The bars of quality, and all metrics of the three models on all slices and on the ambiguous ones."""
    pipeline: Any = load(checkpoint)
    rows = load_test_split(test_config(pipeline))
    ensemble = run_segmentation(pipeline, rows, ensemble_size=MEMBERS, seed=seed)
    unet, training = trained_baseline()
    supervised = run_supervised(unet, rows, ensemble, samples=MEMBERS, seed=seed)
    results = {"ensemble": ensemble, "one sample": _one_sample(ensemble), "U-Net": supervised}
    ambiguous, relatively = most_disputed(ensemble, relative=False), most_disputed(ensemble, relative=True)
    whole = {name: _values(result, seed) for name, result in results.items()}
    hard = {name: _values(_part(result, ambiguous), seed) for name, result in results.items()}
    small = {name: _values(_part(result, relatively), seed) for name, result in results.items()}
    ours, single, theirs = (hard[name] for name in results)
    bars = [
        Bar("segmentation: held-out hard subjects", len(set(ensemble.subjects)), ">=", 60),
        Bar("segmentation: whole-tumour Dice, ensemble minus U-Net", _gain(whole, "dice_whole"), ">=", -0.015),
        Bar(
            "segmentation: tumour-free slices with a false positive",
            whole["ensemble"]["false_positive_slices"],
            "<=",
            0.05,
        ),
        Bar("segmentation: expected calibration error", whole["ensemble"]["ece"], "<=", 0.05),
        Bar("ambiguous: error–uncertainty AUROC of the ensemble", ours[AUROC], ">=", 0.9),
        Bar("ambiguous: AUROC, ensemble minus one sample", ours[AUROC] - single[AUROC], ">=", 0),
        Bar("ambiguous: AUROC, ensemble minus U-Net's softmax", ours[AUROC] - theirs[AUROC], ">=", 0),
        Bar("ambiguous: GED, ensemble minus one sample", ours[GED] - single[GED], "<=", 0),
        Bar("ambiguous: GED, ensemble minus U-Net's softmax", ours[GED] - theirs[GED], "<=", 0),
    ]
    sizes = {"segmentation": pipeline.unet.num_parameters(), "U-Net": unet.num_parameters()}
    facts = {"all slices": whole, "ambiguous": hard, "ambiguous for their size": small}
    return bars, {"n": len(set(ensemble.subjects)), "parameters": sizes, "training of the U-Net": training, **facts}


def _one_sample(ensemble: SegmentationResult) -> SegmentationResult:
    """The first sample alone: a mask without any uncertainty."""
    mask = ensemble.samples[:, 0]
    probability = np.moveaxis(np.eye(len(ensemble.id2label), dtype=np.float32)[mask], -1, 1)
    certain = np.zeros(mask.shape, np.float32)
    return replace(ensemble, mask=mask, samples=mask[:, None], probability=probability, uncertainty=certain)


def test_config(pipeline: ConditionalSegmentationPipeline) -> LabelledDataConfig:
    """The phantom test set for this pipeline."""
    return LabelledDataConfig(
        modalities=list(pipeline.modalities),
        classes=list(pipeline.id2label.values())[1:],
        resolution=pipeline.unet.config["sample_size"],
        spacing=pipeline.config["spacing"],
        preprocessing_num_workers=2,
    )


def most_disputed(result: SegmentationResult, relative: bool) -> np.ndarray:
    """Indices of the half of the tumour slices with the largest area that some, but not all raters segment.

    relative: divide this area by the union of the raters' masks.
    """
    marked = result.raters > 0
    any_, all_ = marked.any(axis=1).sum(axis=(1, 2)), marked.all(axis=1).sum(axis=(1, 2))
    with_tumour = np.flatnonzero((any_ > 0) & (result.area > 0))
    disputed = (any_ - all_)[with_tumour] / (any_[with_tumour] if relative else 1)
    return with_tumour[disputed >= np.median(disputed)]


def _part(result: SegmentationResult, numbers: np.ndarray) -> SegmentationResult:
    per_slice = {
        field.name: getattr(result, field.name)[numbers]
        for field in fields(result)
        if isinstance(getattr(result, field.name), np.ndarray)
    }
    return replace(result, **per_slice, subjects=[result.subjects[number] for number in numbers])


def _values(result: SegmentationResult, seed: int) -> dict[str, float]:
    return {metric.key: round(metric.value, 5) for metric in segmentation_metrics(result, DATASET, seed)}


def _gain(values: dict[str, dict[str, float]], key: str) -> float:
    return values["ensemble"][key] - values["U-Net"][key]
