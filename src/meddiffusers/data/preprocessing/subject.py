"""Read the scans of one subject from any source as the channels of one scan."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import affine_transform

from meddiffusers.data.io import read
from meddiffusers.data.io.dicom_modality import modality_of_series
from meddiffusers.data.io.scan_search import DICOM, find_scans, format_of
from meddiffusers.data.modalities import LABELS, Recognized, recognize_path
from meddiffusers.data.preprocessing.resampling import translation
from meddiffusers.data.scan import Scan, stack_channels
from meddiffusers.data.subject import Subject
from meddiffusers.utils.text import some_of

Named = tuple[str, Any, str]  # a modality, its scan or what `data.io.read` takes, and what it was recognized by
Unclear = tuple[Path, Recognized]  # a file whose name says several modalities
_USUAL = ("t1", "t1ce", "t2", "flair")
_SAME_GRID = 1e-3  # mm, as `stack_channels` compares

logger = logging.getLogger(__name__)


def read_subject(source: Any, modalities: Sequence[str] | None = None) -> Scan:
    """Read one channel per modality of a subject, all on one grid.

    Scans on several grids are resampled linearly onto the grid of the scan with the most voxels, by their affines; they
    must be registered. Outside its own grid a channel is 0.

    Args:
        source: a folder with one file or DICOM series per modality, named so that `data.modalities` recognises them
            (label files are ignored); a single file or DICOM series; a mapping from modality to path or scan; a scan
            whose `modality` names its channels; a list of these; or a `Subject`.
        modalities: those to read, in this order; by default all. Some, but not all, may be missing.

    Returns:
        Scan (C, X, Y, Z).

    Raises:
        FileNotFoundError: the file or folder does not exist.
        ValueError: none of the modalities is available, one has several scans, no modality is recognised, a scan has
            several channels for one modality, a name that says several modalities may be a requested one that is
            missing, scans do not overlap, or a file cannot be read.
    """
    path = str(source) if isinstance(source, str | Path) else ""
    unclear = list[Unclear]()
    available = list(_named(source, unclear))
    names = list(dict.fromkeys(name for name, _, _ in available))
    requested = [name for name in modalities or names if name in names and name != LABELS]
    _refuse_unclear(unclear, names, modalities)
    if not requested:
        raise ValueError(
            f"Got {', '.join(names) or 'nothing'}{path and f' in {path}'}; expected at least one of "
            f"{', '.join(modalities or _USUAL)}. Give scans of these, or say which they are: {{'t1ce': path}}."
        )
    if left_out := [name for name in names if name not in requested]:
        logger.info("%s: not used: %s", path or "a subject", ", ".join(left_out))
    scans = [_single(name, [each for each in available if each[0] == name]) for name in requested]
    whole = stack_channels(_on_one_grid(scans))
    return replace(whole, source=path or whole.source)


def _named(source: Any, unclear: list[Unclear]) -> Iterator[Named]:
    """All modalities of the source; files whose names give the modality are not read, those that conflict are noted."""
    if isinstance(source, Subject):
        yield from ((name, scan, "") for name, scan in source.images.items())
    elif isinstance(source, Mapping):
        yield from ((name, scan, "") for name, scan in source.items())
    elif isinstance(source, Scan):
        yield from _channels(source)
    elif isinstance(source, str | Path):
        yield from _in_path(Path(source), unclear)
    elif isinstance(source, Sequence):
        for part in source:
            yield from _named(part, unclear)
    else:
        yield from _channels(read(source))


def _channels(scan: Scan) -> Iterator[Named]:
    if not all(scan.modality):
        raise ValueError(
            f"The modality of {scan.source or 'a scan'} is unknown{_because(scan.modality_from)}; give it: "
            "{'t1ce': path or scan}, "
            "or Scan(array, affine, modality='t1ce') with a name for each channel."
        )
    for channel, name in zip(scan.array, scan.modality, strict=True):
        yield name, replace(scan, array=channel, modality=name), scan.modality_from


def _because(evidence: str) -> str:
    return f" ({evidence})" if evidence else ""


def _refuse_unclear(unclear: Sequence[Unclear], names: Sequence[str], modalities: Sequence[str] | None) -> None:
    """Raise ValueError for a scan that may be a modality which is wanted and not found otherwise; log the others."""
    for file, recognized in unclear:
        missing = [each for each in recognized.candidates if each not in names]
        if modalities is None or {*missing} & {*modalities}:
            choices = " or ".join(f"{{{each!r}: path}}" for each in recognized.candidates)
            raise ValueError(f"{file}: the name says {recognized}; expected one. Rename it, or say which: {choices}.")
        logger.warning("%s: the name says %s; not used.", file, recognized)


def _in_path(path: Path, unclear: list[Unclear]) -> Iterator[Named]:
    paths = find_scans(path)
    if paths == [path]:
        yield from _channels(read(path))
        return
    named = [(file, _identify(file, path)) for file in paths]
    unclear += [(file, found) for file, found in named if found.candidates]
    unknown = [
        f"{file.relative_to(path)}{_because(str(found))}"
        for file, found in named
        if not found.modality and not found.candidates
    ]
    if len(unknown) == len(named):
        raise ValueError(
            f"{path} holds {some_of(unknown) or 'no scan'}; expected a subject's scans with names that contain the "
            "modality, such as t1ce.nii.gz. Rename them, or give the modality: {'t1ce': path}."
        )
    if unknown:
        logger.warning("%s: names without a modality, not used: %s", path, some_of(unknown))
    yield from ((found.modality, file, f"{file.name}: {found}") for file, found in named if found.modality)


def _identify(file: Path, folder: Path) -> Recognized:
    """The modality from DICOM tags, else from the file's name or a folder above it, else from the description."""
    named = recognize_path(file, folder)
    return modality_of_series(file, named) if format_of(file) == DICOM else named


def _single(name: str, available: Sequence[Named]) -> Scan:
    """Read the single scan of a modality, with one channel of that name."""
    if len(available) > 1:
        places = some_of(
            str(scan) if isinstance(scan, str | Path) else scan.source or "a scan" for _, scan, _ in available
        )
        raise ValueError(
            f"Got {len(available)} scans of {name}: {places}; expected one of each modality of one subject. "
            f"Choose one: {{{name!r}: path}}."
        )
    _, source, evidence = available[0]
    scan = source if isinstance(source, Scan) else read(source, modality=name)
    if len(scan.array) > 1:
        raise ValueError(
            f"{scan.source or 'A scan'} has {len(scan.array)} channels for {name}; expected one. Name each channel: "
            "Scan(array, affine, modality=('t1', 't1ce', …))."
        )
    return replace(scan, modality=name, modality_from=evidence)


def _on_one_grid(scans: Sequence[Scan]) -> list[Scan]:
    finest = max(scans, key=lambda scan: scan.array.size)
    return [scan if _same_grid(scan, finest) else _resample_onto(scan, finest) for scan in scans]


def _same_grid(scan: Scan, other: Scan) -> bool:
    return scan.shape == other.shape and np.allclose(scan.affine, other.affine, atol=_SAME_GRID)


def _resample_onto(scan: Scan, grid: Scan) -> Scan:
    """Resample a scan of one channel onto another, possibly rotated grid; 0 outside its outermost voxels."""
    name, other = scan.modality[0], grid.modality[0]
    logger.warning("%s is resampled onto the grid of %s; they are taken to be registered.", name, other)
    # Scipy ends at the centres of the outermost voxels; padding by one voxel extends thick slices to their faces.
    wider = np.pad(scan.array[0].astype(np.float32), 1, mode="edge")
    matrix = translation([1, 1, 1]) @ np.linalg.inv(scan.affine) @ grid.affine
    array = affine_transform(wider, matrix, output_shape=grid.shape, order=1, mode="constant")
    if scan.array.any() and not array.any():
        raise ValueError(
            f"{name} does not overlap with {other}: {scan.source or 'a scan'} and {grid.source or 'a scan'} have no "
            "voxel of one place in common. Expected scans of one subject, registered; check their affines."
        )
    return grid.like(array, name)
