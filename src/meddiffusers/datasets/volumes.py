"""Volumes with covariates, from brain phantoms or users' own scans.

image    (C, X, Y, Z) int16   round(`INTENSITY_SCALE` × intensity), with intensities in [0, 1]; axes in RAS+
regions  (X, Y, Z) int16      FreeSurfer's label ids of `data.regions`, 0 elsewhere; only for phantoms
subject  string               subject of the volume

and the covariates: for phantoms age (years), sex ("F", "M"), brain_volume_ml and ventricular_volume_ml; for scans
columns of the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import datasets
import numpy as np
import torch

from meddiffusers.data.io import read
from meddiffusers.data.phantoms.brain.phantom import EXTENT, BrainPhantom
from meddiffusers.data.preprocessing.transforms import Preprocessing
from meddiffusers.data.scan import stack_channels
from meddiffusers.datasets.generated import generated_rows
from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE, normalise_to_int16
from meddiffusers.datasets.phantom_slices import VERSION

COVARIATES = ("age", "sex", "brain_volume_ml", "ventricular_volume_ml")
WRITER_BATCH_SIZE = 16  # rows: at 2 mm about 50 MB of memory
_VERSION = 1  # of the rows: raise it with every change that invalidates cached data sets


def phantom_volumes(
    n: int,
    seed: int = 0,
    *,
    spacing: float = 2.0,
    modalities: Sequence[str] = ("t1",),
    num_proc: int | None = None,
) -> datasets.Dataset:
    """Generate healthy, skull-stripped brains of 160 × 192 × 160 mm; built once and cached.

    Args:
        n: number of volumes, one per subject.
        seed: of the subjects.
        spacing: edge length of the voxels in mm.
        modalities: channels.
        num_proc: number of processes; the result does not depend on it.

    Raises:
        ValueError: n or seed is too small; see also `BrainPhantom.volume`.
    """
    if n < 1 or seed < 0:
        raise ValueError(f"Got n={n} and seed={seed}; expected at least one brain, and a seed of 0 or more.")
    sizes = [int(np.ceil(mm / spacing)) for mm in EXTENT]
    features = datasets.Features(
        image=datasets.Array4D((len(modalities), *sizes), "int16"),
        regions=datasets.Array3D(tuple(sizes), "int16"),
        subject=datasets.Value("string"),
        age=datasets.Value("float32"),
        sex=datasets.Value("string"),
        brain_volume_ml=datasets.Value("float32"),
        ventricular_volume_ml=datasets.Value("float32"),
    )
    settings: dict[str, Any] = {
        "jobs": [(seed, index) for index in range(n)],
        "spacing": float(spacing),
        "modalities": tuple(modalities),
        "version": (VERSION, _VERSION),
    }
    return generated_rows(
        _rows, n, features=features, gen_kwargs=settings, num_proc=num_proc, writer_batch_size=WRITER_BATCH_SIZE
    )


def _rows(
    jobs: list[tuple[int, int]], spacing: float, modalities: tuple[str, ...], version: tuple[int, int]
) -> Iterator[dict[str, Any]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # processes share the cores; a forked process cannot use its parent's threads
    try:
        for seed, index in jobs:
            phantom = BrainPhantom(int(np.random.default_rng([seed, index]).integers(2**31)))
            subject = phantom.volume(spacing, modalities)
            yield {
                "image": normalise_to_int16(np.concatenate([scan.array for scan in subject.images.values()])),
                "regions": subject.regions.array[0].astype(np.int16) if subject.regions else None,
                "subject": f"{seed}-{index}",
                **{name: phantom.record[name] for name in COVARIATES},
            }
    finally:
        torch.set_num_threads(threads)


def scan_volumes(
    scans: datasets.Dataset,
    *,
    spacing: float,
    size: tuple[int, int, int],
    modalities: Sequence[str],
    covariates: Sequence[str] = (),
    num_proc: int | None = None,
) -> datasets.Dataset:
    """Preprocess scans to one voxel grid, cropped or padded around the foreground.

    Args:
        scans: rows as returned by `load_scans`.
        spacing: edge length of the voxels in mm.
        size: (X, Y, Z) voxels.
        modalities: columns with scans of one channel each, on one grid.
        covariates: columns that are copied.
        num_proc: number of processes.

    Raises:
        ValueError: a missing column, or a scan that `Preprocessing` rejects; the message has the row's number.
    """
    if missing := [name for name in (*modalities, *covariates) if name not in scans.column_names]:
        raise ValueError(
            f"The scans have no column {', '.join(missing)}; they have {', '.join(scans.column_names)}. Choose from "
            "these."
        )
    kept = {name: scans.features[name] for name in covariates}
    features = datasets.Features(
        image=datasets.Array4D((len(modalities), *size), "int16"), subject=datasets.Value("string"), **kept
    )
    settings = {"spacing": spacing, "size": size, "modalities": tuple(modalities), "covariates": tuple(covariates)}
    return scans.map(
        _row_of_scan,
        with_indices=True,
        fn_kwargs={**settings, "version": _VERSION},
        remove_columns=scans.column_names,
        features=features,
        writer_batch_size=WRITER_BATCH_SIZE,
        num_proc=num_proc,
    )


def _row_of_scan(
    row: dict[str, Any],
    index: int,
    spacing: float,
    size: tuple[int, int, int],
    modalities: tuple[str, ...],
    covariates: tuple[str, ...],
    version: int,
) -> dict[str, Any]:
    try:
        scan = stack_channels([read(row[name], modality=name) for name in modalities])
        image = Preprocessing(spacing=spacing, size=size)(scan).image
    except ValueError as error:
        raise ValueError(f"Row {index}: {error}") from None
    return {
        "image": np.rint(image.array * INTENSITY_SCALE).astype(np.int16),
        "subject": str(row.get("subject") or index),
        **{name: row[name] for name in covariates},
    }
