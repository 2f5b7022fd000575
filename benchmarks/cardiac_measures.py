"""The seven attributes of label maps against the outlines that these were drawn from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from meddiffusers.data.phantoms.cardiac import CardiacPhantom
from meddiffusers.data.phantoms.cardiac.phantom import SPACING
from meddiffusers.evaluation.results import Bar
from meddiffusers.pipelines.meddiffusers_heart_shapes_v1 import CARDIAC_ATTRIBUTES, measure_hearts
from meddiffusers.pipelines.meddiffusers_heart_validity_v1 import heart_issues

PATIENTS, FRAMES, FIRST = 100, 13, 500_000
BOUNDS = {"lv_length": 1.0, "orientation": 1.0, "base_width": 1.5, "lv_area": 0.02, "myo_area": 0.02}


def measures(checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """The bars; mean absolute errors in mm and degrees, of areas relative. No checkpoint takes part."""
    del checkpoint, seed
    errors: dict[str, list[float]] = {name: [] for name in CARDIAC_ATTRIBUTES}
    invalid = 0
    for number in range(PATIENTS):
        phantom = CardiacPhantom(FIRST + number, view=("4CH", "2CH")[number % 2])
        phases = phantom.phases(FRAMES)
        labels, truth = phantom.labels(phases), phantom.truth(phases)
        invalid += int(heart_issues(labels).any(axis=1).sum())
        for name, values in zip(CARDIAC_ATTRIBUTES, measure_hearts(labels, SPACING).T, strict=True):
            scale = truth[name] if name.endswith("area") else 1.0
            errors[name] += (np.abs(values - truth[name]) / scale).tolist()
    found = {name: float(np.mean(of)) for name, of in errors.items()}
    bars = [Bar(f"measures: {name}", found[name], "<=", bound) for name, bound in BOUNDS.items()]
    bars.append(Bar("measures: clean phantoms taken to be invalid", invalid, "==", 0))
    return bars, {"n": PATIENTS, "frames": PATIENTS * FRAMES, "mean absolute errors": found}
