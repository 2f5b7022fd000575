"""Benchmark the brain phantom: time, and the accuracy of volumes on several grids."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import datasets

from meddiffusers.data.phantoms.brain.phantom import BrainPhantom
from meddiffusers.data.phantoms.brain.template import template
from meddiffusers.data.regions import CEREBROSPINAL_FLUID, REGIONS, VENTRICLES
from meddiffusers.data.subject import Subject
from meddiffusers.evaluation.results import Bar

TIMED, COMPARED = 5, 3  # people whose images are timed, and whose volumes are compared
SLICES, CHECKED = 1000, 40  # of the data set that is timed, and of those made by one and by two processes
# In an interpreter and a cache of its own; prints wall-clock seconds and a fingerprint of all examples.
BUILD = """
import hashlib, sys, time
from meddiffusers.datasets.phantom_slices import phantom_slices
from meddiffusers.data.phantoms.brain.template import template
template()
start = time.perf_counter()
examples = phantom_slices({count}, seed={seed}, num_proc={workers})
print(time.perf_counter() - start)
digest = hashlib.sha256()
for example in examples.with_format("numpy"):
    for name in sorted(example):
        digest.update(example[name].tobytes() if hasattr(example[name], "tobytes") else str(example[name]).encode())
print(len(examples), digest.hexdigest())
"""


def phantom_bars(seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """Bars for time and volumes, and the measured values."""
    template_seconds = _template_seconds()
    built, people = _timed(lambda number: BrainPhantom(number), seed)
    volume, _ = _timed(lambda number: people[number - seed].volume(2.0), seed)
    piece, _ = _timed(lambda number: people[number - seed].slice(10.0, 128), seed)
    grids, brain, ventricles = _volume_errors(seed)
    bars = [
        Bar("phantom: CPU s of a 2 mm volume, four modalities", volume, "<=", 0.8),
        Bar("phantom: CPU s of a 128² slice, four modalities", piece, "<=", 0.1),
        Bar("phantom: CPU s to prepare the template, once", template_seconds, "<=", 15),
        Bar("phantom: largest difference of a region's volume, 1 mm to 2 mm", max(grids.values()), "<=", 0.03),
        Bar("phantom: largest difference of brain volume, delivered to asked", brain, "<=", 0.03),
        Bar("phantom: largest difference of ventricular volume, delivered to asked", ventricles, "<=", 0.03),
    ]
    differences = {REGIONS[label]: round(value, 4) for label, value in sorted(grids.items(), key=lambda item: -item[1])}
    return bars, {"constructor_s": round(built, 3), "region_differences": differences}


def slices_bars(seed: int) -> list[Bar]:
    """Bars for the data set of slices."""
    _, one = _build(CHECKED, seed, workers=1)
    _, two = _build(CHECKED, seed, workers=2)
    seconds, _ = _build(SLICES, seed, workers=2)
    return [
        Bar(f"phantom: minutes of a data set of {SLICES} slices, two processes", seconds / 60, "<=", 3),
        Bar(f"phantom: {CHECKED} slices alike for one and two processes", float(one == two), "==", 1),
    ]


def _build(count: int, seed: int, workers: int) -> tuple[float, str]:
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, "-c", BUILD.format(count=count, seed=seed, workers=workers)]
        variables = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment = {**variables, "HF_HOME": cache, "OMP_NUM_THREADS": "1"}
        output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    seconds, fingerprint = output.splitlines()
    return float(seconds), fingerprint


def _template_seconds() -> float:
    """CPU seconds of the first call ever."""
    with (
        tempfile.TemporaryDirectory() as cache,
        patch.object(datasets.config, "HF_DATASETS_CACHE", Path(cache)),
    ):
        template.cache_clear()
        start = time.process_time()
        template()
        return time.process_time() - start


def _timed(make: Callable[[int], Any], seed: int) -> tuple[float, list[Any]]:
    """Median CPU seconds, and the results for `TIMED` seeds from `seed`; a first call is not counted."""
    make(seed)
    seconds, made = [], []
    for number in range(seed, seed + TIMED):
        start = time.process_time()
        made.append(make(number))
        seconds.append(time.process_time() - start)
    return statistics.median(seconds), made


def _volume_errors(seed: int) -> tuple[dict[int, float], float, float]:
    """Largest relative differences: of each region between 1 mm and 2 mm; of brain and ventricles from the targets."""
    regions: dict[int, float] = {}
    brain, ventricles = [], []
    for number in range(seed, seed + COMPARED):
        phantom = BrainPhantom(number)
        fine, coarse = (phantom.volume(spacing, ("t1",)) for spacing in (1.0, 2.0))
        for label, amount in fine.volumes.items():
            regions[label] = max(regions.get(label, 0), abs(coarse.volumes[label] / amount - 1))
        volumes = _brain_and_ventricles(fine)
        brain.append(abs(volumes[0] / phantom.demographics.brain_volume_ml - 1))
        ventricles.append(abs(volumes[1] / phantom.demographics.ventricular_volume_ml - 1))
    return regions, max(brain), max(ventricles)


def _brain_and_ventricles(subject: Subject) -> tuple[float, float]:
    """Volumes of brain and ventricles in ml."""
    ventricles = sum(subject.volumes[label] for label in VENTRICLES)
    brain = sum(subject.volumes.values()) - ventricles - subject.volumes[CEREBROSPINAL_FLUID]
    return brain / 1000, ventricles / 1000
