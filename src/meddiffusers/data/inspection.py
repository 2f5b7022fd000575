"""Inspect scans: geometry, intensities, labels, and all issues."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from meddiffusers.data.io import read
from meddiffusers.data.io.scan_search import format_of
from meddiffusers.data.labels import WHOLE
from meddiffusers.data.preprocessing.intensities import foreground_window
from meddiffusers.data.regions import REGIONS, region_volumes
from meddiffusers.data.scan import Scan

MANY = 4  # a map with more labels, all of them known brain regions, is a map of brain regions

Spacings = dict[tuple[Path, str], list[tuple[float, ...]]]  # by folder and modality


@dataclass(frozen=True)
class Inspection:
    """Summary of one scan; if it cannot be read, only path, format and issues are set.

    Attributes:
        path: file or DICOM folder.
        format: of the file.
        issues: everything that is wrong.
        notes: what the reader repaired in the header, or found left open.
        shape: voxels along the three axes.
        channels: number of modalities or frames.
        spacing: edge lengths of a voxel in mm.
        orientation: directions of the axes, such as "RAS".
        dtype: type of the voxels.
        range: lowest and highest value.
        percentiles: 1st and 99th of the first channel's foreground.
        modality: names of the channels.
        modality_from: what they were recognized by, or why they are unknown.
        labels: millilitres of each label except 0.
    """

    path: Path
    format: str
    issues: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    shape: tuple[int, int, int] = (0, 0, 0)
    channels: int = 0
    spacing: tuple[float, float, float] = (0, 0, 0)
    orientation: str = ""
    dtype: str = ""
    range: tuple[float, float] | None = None
    percentiles: tuple[float, float] | None = None
    modality: str = ""
    modality_from: str = ""
    labels: dict[int, float] = field(default_factory=dict)


def label_names(labels: Collection[int]) -> dict[int, str]:
    """Names of brain regions for maps of brain regions, otherwise names such as "label 4"."""
    regions = len(labels) > MANY and set(labels) <= REGIONS.keys()
    return {label: REGIONS[label] if regions else f"label {label}" for label in labels}


def inspect_scan(path: Path) -> tuple[Inspection, Scan | None]:
    """Inspect a file or a DICOM folder; the scan is None if it cannot be read."""
    kind = format_of(path)
    kind = f"{kind} series" if path.is_dir() else kind
    try:
        scan = read(path)
    except (ValueError, OSError, ImportError) as error:
        return Inspection(path, kind, (str(error).replace(f"{path}: ", ""),)), None
    finite = scan.array[np.isfinite(scan.array)]
    windows, issues = _windows(scan)
    return Inspection(
        path,
        kind,
        issues=(*issues, *_label_issues(scan)),
        notes=scan.notes,
        shape=scan.shape,
        channels=len(scan.array),
        spacing=scan.spacing,
        orientation=scan.orientation,
        dtype=str(scan.array.dtype),
        range=(float(finite.min()), float(finite.max())) if finite.size else None,
        percentiles=windows[0] if windows else None,
        modality=", ".join(dict.fromkeys(scan.modality)),
        modality_from=scan.modality_from,
        labels=_millilitres(scan) if scan.is_labels and not _label_issues(scan) else {},
    ), scan


def with_folder_issues(inspections: Iterable[Inspection]) -> list[Inspection]:
    """Add issues that only a comparison shows: scans of one modality and folder with different spacings."""
    inspections = list(inspections)
    spacings: Spacings = defaultdict(list)
    for each in inspections:
        if each.channels:
            spacings[each.path.parent, each.modality].append(each.spacing)
    return [
        replace(each, issues=(*each.issues, *_odd_spacing(each, spacings))) if each.channels else each
        for each in inspections
    ]


def _odd_spacing(each: Inspection, spacings: Spacings) -> Iterator[str]:
    beside = spacings.get((each.path.parent, each.modality))
    if beside and not np.allclose(usual := _most_common(beside), each.spacing, rtol=0.01):
        mm = "×".join(f"{length:.3g}" for length in usual)
        yield f"another spacing than most {each.modality or 'scans'} in its folder, {mm} mm"


def _most_common(spacings: list[tuple[float, ...]]) -> tuple[float, ...]:
    return Counter(tuple(round(length, 3) for length in spacing) for spacing in spacings).most_common(1)[0][0]


def _windows(scan: Scan) -> tuple[list[tuple[float, float]], list[str]]:
    """1st and 99th percentile of each channel, and issues of channels without."""
    if scan.is_labels:
        return [], []
    windows, issues = [], []
    for number, channel in enumerate(scan.array):
        try:
            low, high = foreground_window(channel, (1, 99), f"channel {number}" if len(scan.array) > 1 else "the image")
            windows.append((float(low), float(high)))
        except ValueError as error:
            issues.append(str(error).partition(";")[0])
    return windows, issues


def _label_issues(scan: Scan) -> list[str]:
    if not scan.is_labels or scan.array.dtype.kind in "bu":
        return []
    with np.errstate(invalid="ignore"):
        whole = np.abs(scan.array - np.rint(scan.array)) <= WHOLE
    if not whole.all():
        return ["labels that are not integers: they were interpolated, or this is not a label map"]
    return [f"labels below 0, down to {scan.array.min():g}"] if scan.array.min() < 0 else []


def _millilitres(scan: Scan) -> dict[int, float]:
    return {label: volume / 1000 for label, volume in region_volumes(scan.array, scan.voxel_volume).items()}
