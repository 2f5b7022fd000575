"""The seven attributes, measured in label maps, against the outlines from which the phantom renders them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from meddiffusers.data.phantoms.cardiac import CardiacPhantom
from meddiffusers.data.phantoms.cardiac.phantom import SPACING
from meddiffusers.evaluation.results import Bar
from meddiffusers.pipelines.meddiffusers_cardiac_attributes_v1 import CARDIAC_ATTRIBUTES, measure_cardiac_attributes
from meddiffusers.pipelines.meddiffusers_cardiac_validity_v1 import anatomical_violations

PATIENTS, FRAMES, FIRST = 100, 13, 500_000
BOUNDS = {"lv_length": 1.0, "orientation": 1.0, "base_width": 1.5, "lv_area": 0.02, "myo_area": 0.02}


def measures(checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """Return the bars, and mean absolute errors in mm and degrees, those of areas relative; no checkpoint is used."""
    del checkpoint, seed
    errors: dict[str, list[float]] = {name: [] for name in CARDIAC_ATTRIBUTES}
    invalid = 0
    for i in range(PATIENTS):
        phantom = CardiacPhantom(FIRST + i, view=("4CH", "2CH")[i % 2])
        phases = phantom.phases(FRAMES)
        labels, truth = phantom.labels(phases), phantom.ground_truth(phases)
        invalid += int(anatomical_violations(labels).any(axis=1).sum())
        for name, values in zip(CARDIAC_ATTRIBUTES, measure_cardiac_attributes(labels, SPACING).T, strict=True):
            scale = truth[name] if name.endswith("area") else 1.0
            errors[name] += (np.abs(values - truth[name]) / scale).tolist()
    means = {name: float(np.mean(values)) for name, values in errors.items()}
    bars = [Bar(f"measures: {name}", means[name], "<=", bound) for name, bound in BOUNDS.items()]
    bars.append(Bar("measures: clean phantoms that count as invalid", invalid, "==", 0))
    return bars, {"n": PATIENTS, "frames": PATIENTS * FRAMES, "mean absolute errors": means}
