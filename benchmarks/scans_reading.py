"""Benchmark reading: damaged files are refused, DICOM series are sorted, and the time to load a BraTS folder."""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import datasets
import nibabel
import numpy as np

from meddiffusers.data.io import read
from meddiffusers.data.layouts import write_brats
from meddiffusers.data.phantoms.brain.population import brats_subjects
from meddiffusers.data.preprocessing.slices import slices
from meddiffusers.data.preprocessing.transforms import Preprocessing
from meddiffusers.data.scan import stack_channels
from meddiffusers.datasets.public import brats as load_brats
from meddiffusers.evaluation.results import Bar

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from helpers.corrupted_files import corrupted_files
from helpers.dicom_series import LPS, write_series

CORRUPTED, SERIES = 200, 5
SUBJECTS, DIFFERENT = 20, 4  # subjects in the folder, and how many of them are not copies
MODALITIES = ("t1", "t1ce", "t2", "flair")


def reading_bars(seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """Bars, and the measured values."""
    with tempfile.TemporaryDirectory() as folder:
        refused = sum(_refused(path) for path in corrupted_files(Path(folder) / "corrupted", seed, CORRUPTED))
        sorted_right = sum(_sorted_right(Path(folder) / f"series-{number}", number) for number in range(SERIES))
        ratio, facts = _reading_ratio(Path(folder), seed)
    return [
        Bar(f"{CORRUPTED} corrupted files that give ValueErrors naming them", refused, "==", CORRUPTED),
        Bar(f"{SERIES} DICOM series under shuffled names that give the volume", sorted_right, "==", SERIES),
        Bar("1 mm BraTS folder loaded, normalised, sliced; CPU time over bare nibabel reads", ratio, "<=", 1.5),
    ], facts


def _refused(path: Path) -> bool:
    try:
        read(path)
    except ValueError as error:
        return str(path) in str(error)
    return False


def _sorted_right(folder: Path, seed: int) -> bool:
    array = np.random.default_rng(seed).integers(-900, 3000, (24, 20, 40)).astype(np.int16)
    affine = LPS @ np.diag([0.8, 0.9, 3, 1])
    write_series(folder, array, affine, seed)
    scan = read(folder)
    return np.array_equal(scan.array[0], array) and np.allclose(scan.affine, affine, atol=1e-4)


def _reading_ratio(folder: Path, seed: int) -> tuple[float, dict[str, Any]]:
    """Median ratio of the time per subject to nibabel's; the time to index the folder is divided among the subjects."""
    brats = write_brats(brats_subjects(DIFFERENT, seed), folder / "brats")
    _multiply(brats)
    datasets.disable_progress_bars()
    start = time.process_time()
    rows = load_brats(brats, test_fraction=0)["train"]
    for name in (*MODALITIES, "seg"):
        rows = rows.cast_column(name, datasets.Nifti(decode=False))  # paths
    indexing = (time.process_time() - start) / SUBJECTS
    preprocess = Preprocessing()
    bare, ours = [], []
    for index in range(SUBJECTS):
        start = time.process_time()
        row = rows[index]
        labels = read(row["seg"], modality="labels")
        preprocessed = preprocess(stack_channels([read(row[name]) for name in MODALITIES]), labels)
        slices(preprocessed.image), slices(preprocessed.labels or labels)
        ours.append(time.process_time() - start + indexing)
        start = time.process_time()
        for path in sorted((brats / row["case"]).iterdir()):
            image: Any = nibabel.load(path)
            np.asanyarray(image.dataobj)
        bare.append(time.process_time() - start)
    ratio = statistics.median(mine / theirs for mine, theirs in zip(ours, bare, strict=True))
    return ratio, {
        "seconds_a_subject": round(statistics.median(ours), 3),
        "seconds_a_subject_nibabel": round(statistics.median(bare), 3),
        "seconds_a_subject_indexing": round(indexing, 3),
    }


def _multiply(brats: Path) -> None:
    """Copy the subjects under new numbers, since equal files take equal time to read; tables are removed."""
    for table in brats.glob("*.csv"):
        table.unlink()
    for number in range(DIFFERENT + 1, SUBJECTS + 1):
        old, new = (f"BraTS20_Training_{value:03d}" for value in ((number - 1) % DIFFERENT + 1, number))
        (brats / new).mkdir()
        for path in (brats / old).iterdir():
            shutil.copyfile(path, brats / new / path.name.replace(old, new))
