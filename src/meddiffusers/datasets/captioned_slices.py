"""Training data of text-to-image: one kind of row, of brain phantoms or of anyone's scans.

image    (1, H, W) int16   round(`INTENSITY_SCALE` × intensity), with intensities within [0, 1]
regions  (H, W) int16      label ids of `data.regions`, 0 where nothing is known
facts    struct            what a prompt says of it, see `facts_of`
subject  string            whose image it is

A row is one slice in one modality; the prompt is written when it is wanted, each time in other words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import datasets
import numpy as np

from meddiffusers.data.io import read
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

SKULL_BASE = -70.0  # mm from the average brain's anterior commissure, where phantom slices of 1 mm are counted from
_VERSION = 1  # of what a row holds: raise it with every change that a cached data set must not outlive


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
    """n axial slices of 1 mm of brain phantoms, each in every modality: n·S rows, made once and cached.

    shares: by default all are healthy. The other arguments are those of `phantom_slices`, which says what is raised.
    Each image is normalised by itself.
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
    """The slices with any foreground of scans as `load_scans` gives them, brought to pixels of `spacing` mm.

    image_column: a scan of one channel; labels_column: a label map of FreeSurfer's ids on its grid, such as SynthSeg
    makes, if there is one. modality: of all scans; by default each row's column of that name. The columns sex ("F",
    "M"), age (years) and subject are taken where there are any. size: (H, W); plane: of `data.slices`.

    Raises:
        ValueError: columns that are not there, and what `Preprocessing` and `SliceFacts` refuse, with the row's number.
    """
    wanted = [name for name in (image_column, labels_column, None if modality else "modality") if name]
    if missing := [name for name in wanted if name not in scans.column_names]:
        raise ValueError(
            f"The scans have no column {', '.join(missing)}; they have {', '.join(scans.column_names)}. Name the "
            "columns, and give modality where it is the same for all."
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
    """The columns above."""
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
    """What a prompt says of a row's slice."""
    said = dict(row["facts"])
    voxel = said.pop("voxel")
    volumes = {each["label"]: each["mm3"] for each in said.pop("volumes")}
    return SliceFacts(**said, voxel=tuple(voxel) if voxel else None, volumes=volumes)


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
        prepared = in_plane(spacing, size, plane=plane)(scan, labels)
        cut = slices(prepared.image, plane)
        shown = np.flatnonzero(cut.array.any(axis=(1, 2, 3)))
        record = {"sex": row.get("sex"), "age": row.get("age")}
        facts = _facts_of_scan(prepared.image, prepared.labels, shown, record, plane)
    except ValueError as error:
        raise ValueError(f"Row {indices[0]}: {error}") from None
    regions = np.zeros((len(cut.array), *size), np.int16)
    if prepared.labels is not None:
        regions = slices(prepared.labels, plane).array[:, 0].astype(np.int16)
    return {
        "image": [np.rint(cut.array[number] * INTENSITY_SCALE).astype(np.int16) for number in shown],
        "regions": [regions[number] for number in shown],
        "facts": [_stored_facts(each) for each in facts],
        "subject": [str(row.get("subject") or indices[0])] * len(shown),
    }


def _facts_of_scan(
    image: Scan, labels: Scan | None, shown: np.ndarray, record: Mapping[str, Any], plane: Plane
) -> list[SliceFacts]:
    """Of each slice that shows anything; those without a labelled region say where they lie and no more."""
    age = record["age"]
    said = {"modality": image.modality[0], "sex": record["sex"], "age": None if age is None else round(float(age))}
    labelled = {} if labels is None else slice_facts(labels, image.modality[0], record, plane)
    first = min(labelled, default=int(shown[0]) if len(shown) else 0)
    return [
        labelled.get(number) or SliceFacts(**said, plane=plane, number=max(1, number - first + 1), voxel=image.spacing)
        for number in shown.tolist()
    ]
