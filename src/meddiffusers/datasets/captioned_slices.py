"""Captioned slices for text-to-image models, from brain phantoms or users' own scans.

image    (1, H, W) int16   round(`INTENSITY_SCALE` × intensity), with intensities in [0, 1]
regions  (H, W) int16      label ids of `data.regions`, 0 if unknown
facts    struct            content of a prompt, see `facts_of`
subject  string            subject of the slice

A row is one slice in one modality. Prompts are not stored: they are written from the facts, in random wording.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import datasets
import numpy as np

from meddiffusers.data.io import read
from meddiffusers.data.labels import to_label_ids
from meddiffusers.data.modalities import LABELS
from meddiffusers.data.phantoms.brain.contrasts import MODALITIES
from meddiffusers.data.phantoms.brain.phantom import FIELD_OF_VIEW
from meddiffusers.data.preprocessing.slices import Plane, slices
from meddiffusers.data.preprocessing.subject_slices import in_plane
from meddiffusers.data.prompts import SliceFacts, slice_facts
from meddiffusers.data.regions import REGIONS, region_volumes
from meddiffusers.data.scan import Scan
from meddiffusers.datasets.labelled_slices import INTENSITY_SCALE, WRITER_BATCH_SIZE, normalise_to_int16
from meddiffusers.datasets.phantom_slices import HEIGHTS, phantom_slices

SKULL_BASE = -70.0  # mm from the anterior commissure of the average brain: position of slice 0 of phantoms
LARGEST_LABEL = 2**15 - 1  # that rows can store
_VERSION = 2  # of the rows: raise it with every change that invalidates cached data sets


def phantom_captioned_slices(
    n: int,
    seed: int = 0,
    *,
    size: int = 96,
    modalities: Sequence[str] = MODALITIES[:4],
    per_subject: int = 1,
    shares: Mapping[str | None, float] | None = None,
    heights: tuple[float, float] = HEIGHTS,
    num_proc: int | None = None,
) -> datasets.Dataset:
    """Generate axial 1 mm slices of brain phantoms in several modalities; built once and cached.

    Each image is normalised independently.

    Args:
        n: number of slices.
        seed: of the subjects.
        size: pixels along both axes.
        modalities: S modalities.
        per_subject: slices per subject.
        shares: see `phantom_slices`; by default all subjects are healthy.
        heights: range of the slices in mm above the anterior commissure.
        num_proc: number of processes; the result does not depend on it.

    Returns:
        n · S rows.

    Raises:
        ValueError: see `phantom_slices`.
    """
    cut = phantom_slices(
        n,
        seed=seed,
        size=size,
        modalities=modalities,
        shares={None: 1.0} if shares is None else shares,
        per_subject=per_subject,
        heights=heights,
        num_proc=num_proc,
    )
    return (
        cut.with_format("numpy")
        .map(
            _rows_of_phantom,
            batched=True,
            batch_size=1,
            fn_kwargs={"modalities": tuple(modalities), "version": _VERSION},
            remove_columns=cut.column_names,
            features=row_features((size, size)),
            writer_batch_size=WRITER_BATCH_SIZE,
            num_proc=num_proc,
        )
        .with_format(None)
    )


def scan_captioned_slices(
    scans: datasets.Dataset,
    *,
    spacing: float,
    size: tuple[int, int],
    plane: Plane = "axial",
    image_column: str = "image",
    labels_column: str | None = None,
    modality: str | None = None,
    num_proc: int | None = None,
) -> datasets.Dataset:
    """Cut scans into slices; slices without foreground are left out.

    Args:
        scans: rows as returned by `load_scans`; the columns sex ("F", "M"), age (years) and subject are optional.
        spacing: edge length of the square pixels in mm.
        size: (H, W).
        plane: "axial", "coronal" or "sagittal".
        image_column: scan of one channel.
        labels_column: label map with FreeSurfer's ids on the grid of the scan, for example from SynthSeg.
        modality: of all scans; by default the column of that name.
        num_proc: number of processes.

    Raises:
        ValueError: a missing column, or a scan that `Preprocessing` or `SliceFacts` reject; the message has the row's
            number.
    """
    required = [name for name in (image_column, labels_column, None if modality else "modality") if name]
    if missing := [name for name in required if name not in scans.column_names]:
        raise ValueError(
            f"The scans have no column {', '.join(missing)}; they have {', '.join(scans.column_names)}. Name the "
            "columns, and give the modality if it is the same for all."
        )
    settings = {"spacing": spacing, "size": size, "plane": plane, "modality": modality, "version": _VERSION}
    return scans.map(
        _rows_of_scan,
        with_indices=True,
        batched=True,
        batch_size=1,
        fn_kwargs={**settings, "columns": (image_column, labels_column)},
        remove_columns=scans.column_names,
        features=row_features(size),
        writer_batch_size=WRITER_BATCH_SIZE,
        num_proc=num_proc,
    )


def row_features(size: tuple[int, int]) -> datasets.Features:
    """Columns of captioned slices of (H, W) pixels."""
    return datasets.Features(
        image=datasets.Array3D((1, *size), "int16"),
        regions=datasets.Array2D(size, "int16"),
        facts={
            "modality": datasets.Value("string"),
            "sex": datasets.Value("string"),
            "age": datasets.Value("int16"),
            "plane": datasets.Value("string"),
            "number": datasets.Value("int16"),
            "voxel": datasets.List(datasets.Value("float64")),
            "volumes": datasets.List({"label": datasets.Value("int16"), "mm3": datasets.Value("int64")}),
        },
        subject=datasets.Value("string"),
    )


def facts_of(row: Mapping[str, Any]) -> SliceFacts:
    """Facts of a row, the content of its prompts."""
    facts = dict(row["facts"])
    voxel = facts.pop("voxel")
    volumes = {each["label"]: each["mm3"] for each in facts.pop("volumes")}
    return SliceFacts(**facts, voxel=tuple(voxel) if voxel else None, volumes=volumes)


def _stored_facts(facts: SliceFacts) -> dict[str, Any]:
    volumes = [{"label": label, "mm3": mm3} for label, mm3 in facts.volumes.items()]
    return {**asdict(facts), "voxel": facts.voxel and list(facts.voxel), "volumes": volumes}


def _rows_of_phantom(batch: dict[str, Any], modalities: tuple[str, ...], version: int) -> dict[str, list[Any]]:
    row = {name: column[0] for name, column in batch.items()}
    edge = FIELD_OF_VIEW / row["image"].shape[-1]
    volumes = region_volumes(row["regions"], edge * edge)  # of slices of 1 mm
    facts = [
        SliceFacts(
            modality=name,
            sex=str(row["sex"]),
            age=round(float(row["age"])),
            number=max(1, round(float(row["height"]) - SKULL_BASE)),
            voxel=(edge, edge, 1.0),
            volumes={label: round(mm3) for label, mm3 in volumes.items() if label in REGIONS},
        )
        for name in modalities
    ]
    return {
        "image": [normalise_to_int16(channel[None].astype(np.float32)) for channel in row["image"]],
        "regions": [row["regions"].astype(np.int16)] * len(modalities),
        "facts": [_stored_facts(each) for each in facts],
        "subject": [str(row["subject"])] * len(modalities),
    }


def _rows_of_scan(
    batch: dict[str, Any],
    indices: list[int],
    spacing: float,
    size: tuple[int, int],
    plane: Plane,
    modality: str | None,
    columns: tuple[str, str | None],
    version: int,
) -> dict[str, list[Any]]:
    row = {name: column[0] for name, column in batch.items()}
    try:
        scan = read(row[columns[0]], modality=modality or row["modality"])
        labels = read(row[columns[1]], modality=LABELS) if columns[1] else None
        preprocessed = in_plane(spacing, size, plane=plane)(scan, labels)
        cut = slices(preprocessed.image, plane)
        nonempty = np.flatnonzero(cut.array.any(axis=(1, 2, 3)))
        record = {"sex": row.get("sex"), "age": row.get("age")}
        facts = _facts_of_scan(preprocessed.image, preprocessed.labels, nonempty, record, plane)
    except ValueError as error:
        raise ValueError(f"Row {indices[0]}: {error}") from None
    regions = np.zeros((len(cut.array), *size), np.int16)
    if labels is not None and preprocessed.labels is not None:
        stored = to_label_ids(slices(preprocessed.labels, plane).array[:, 0], labels.source, largest=LARGEST_LABEL)
        regions = stored.astype(np.int16)
    return {
        "image": [np.rint(cut.array[number] * INTENSITY_SCALE).astype(np.int16) for number in nonempty],
        "regions": [regions[number] for number in nonempty],
        "facts": [_stored_facts(each) for each in facts],
        "subject": [str(row.get("subject") or indices[0])] * len(nonempty),
    }


def _facts_of_scan(
    image: Scan, labels: Scan | None, nonempty: np.ndarray, record: Mapping[str, Any], plane: Plane
) -> list[SliceFacts]:
    """Facts of each non-empty slice; slices without labelled regions have no volumes."""
    age = record["age"]
    facts = {"modality": image.modality[0], "sex": record["sex"], "age": None if age is None else round(float(age))}
    labelled = {} if labels is None else slice_facts(labels, image.modality[0], record, plane)
    first = min(labelled, default=int(nonempty[0]) if len(nonempty) else 0)
    return [
        labelled.get(number) or SliceFacts(**facts, plane=plane, number=max(1, number - first + 1), voxel=image.spacing)
        for number in nonempty.tolist()
    ]
