"""One subject's scans, wherever they are, as the channels of one scan."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import affine_transform

from meddiffusers.data.io import read
from meddiffusers.data.io.scan_search import DICOM, find_scans, format_of
from meddiffusers.data.modalities import LABELS, modality_in
from meddiffusers.data.preprocessing.resampling import translation
from meddiffusers.data.scan import Scan, stack_channels
from meddiffusers.data.subject import Subject
from meddiffusers.utils.text import some_of

Named = tuple[str, Any]  # a modality, and its scan or what `data.io.read` takes
_USUAL = ("t1", "t1ce", "t2", "flair")
_SAME_GRID = 1e-3  # mm, as `stack_channels` compares

logger = logging.getLogger(__name__)


def read_subject(source: Any, modalities: Sequence[str] | None = None) -> Scan:
    """One channel for each modality of the subject, all on one grid; by default every modality there is.

    source: a folder with one file or DICOM series for each modality, which names tell (`data.modalities`; label files
        are passed over); a single file or DICOM series; a mapping from modality to path or scan; a scan, whose
        `modality` names its channels; several of these in a list; or a `Case`.
    modalities: those that are wanted, in this order. Others are not read, and wanted ones may be missing, but not all.

    Scans on several grids are resampled linearly onto the grid of the one with the most voxels, by their affines: they
    are taken to be registered. Where one has no voxels the channel is 0.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: no wanted modality, two scans of one, names that tell none, a scan of several channels for one
            modality, scans that do not overlap, and files that cannot be read.
    """
    path = str(source) if isinstance(source, str | Path) else ""
    found = list(_named(source))
    names = list(dict.fromkeys(name for name, _ in found))
    wanted = [name for name in modalities or names if name in names and name != LABELS]
    if not wanted:
        raise ValueError(
            f"Got {', '.join(names) or 'nothing'}{path and f' in {path}'}; expected at least one of "
            f"{', '.join(modalities or _USUAL)}. Give scans of these, or say which they are: {{'t1ce': path}}."
        )
    if left_out := [name for name in names if name not in wanted]:
        logger.info("%s: not used: %s", path or "a subject", ", ".join(left_out))
    scans = [_single(name, [scan for other, scan in found if other == name]) for name in wanted]
    whole = stack_channels(_on_one_grid(scans))
    return replace(whole, source=path or whole.source)


def _named(source: Any) -> Iterator[Named]:
    """Every modality that the source is known to hold; files are not read where their names tell."""
    if isinstance(source, Subject):
        yield from source.images.items()
    elif isinstance(source, Mapping):
        yield from source.items()
    elif isinstance(source, Scan):
        yield from _channels(source)
    elif isinstance(source, str | Path):
        yield from _in_path(Path(source))
    elif isinstance(source, Sequence):
        for part in source:
            yield from _named(part)
    else:
        yield from _channels(read(source))


def _channels(scan: Scan) -> Iterator[Named]:
    if not all(scan.modality):
        raise ValueError(
            f"Nothing tells which modality {scan.source or 'a scan'} is; say it: {{'t1ce': path or scan}}, "
            "or Scan(array, affine, modality='t1ce') with a name for each channel."
        )
    for channel, name in zip(scan.array, scan.modality, strict=True):
        yield name, replace(scan, array=channel, modality=name)


def _in_path(path: Path) -> Iterator[Named]:
    paths = find_scans(path)
    if paths == [path]:
        yield from _channels(read(path))
        return
    named = [_told(file, path) for file in paths]
    unknown = [str(file.relative_to(path)) for file, (name, _) in zip(paths, named, strict=True) if not name]
    if len(unknown) == len(named):
        raise ValueError(
            f"{path} holds {some_of(unknown) or 'no scan'}; expected a subject's scans with names that tell the "
            "modality, such as t1ce.nii.gz. Rename them, or say which they are: {'t1ce': path}."
        )
    if unknown:
        logger.warning("%s: names that tell no modality, not used: %s", path, some_of(unknown))
    yield from (each for each in named if each[0])


def _told(file: Path, folder: Path) -> Named:
    """The modality as the name, a folder above it or, of DICOM, the file itself tells it; "" where none does."""
    name = next(filter(None, map(modality_in, reversed(file.relative_to(folder).parts))), "")
    if name or format_of(file) != DICOM:
        return name, file
    scan = read(file)
    return scan.modality[0], scan


def _single(name: str, found: Sequence[Any]) -> Scan:
    """The one scan that was found of a modality, read, with one channel of its name."""
    if len(found) > 1:
        places = some_of(str(each) if isinstance(each, str | Path) else each.source or "a scan" for each in found)
        raise ValueError(
            f"Got {len(found)} scans of {name}: {places}; expected one of each modality of one subject. "
            f"Say which: {{{name!r}: path}}."
        )
    scan = found[0] if isinstance(found[0], Scan) else read(found[0], modality=name)
    if len(scan.array) > 1:
        raise ValueError(
            f"{scan.source or 'A scan'} has {len(scan.array)} channels for {name}; expected one. Name each channel: "
            "Scan(array, affine, modality=('t1', 't1ce', …))."
        )
    return replace(scan, modality=name)


def _on_one_grid(scans: Sequence[Scan]) -> list[Scan]:
    finest = max(scans, key=lambda scan: scan.array.size)
    return [scan if _same_grid(scan, finest) else _moved_onto(scan, finest) for scan in scans]


def _same_grid(scan: Scan, other: Scan) -> bool:
    return scan.shape == other.shape and np.allclose(scan.affine, other.affine, atol=_SAME_GRID)


def _moved_onto(scan: Scan, grid: Scan) -> Scan:
    """The scan of one channel on another grid, which may be turned against its own; 0 beyond its outermost voxels."""
    name, other = scan.modality[0], grid.modality[0]
    logger.warning("%s is resampled onto the grid of %s; they are taken to be registered.", name, other)
    # Scipy ends at the centres of the outermost voxels: one more on each side carries thick slices to their faces.
    wider = np.pad(scan.array[0].astype(np.float32), 1, mode="edge")
    matrix = translation([1, 1, 1]) @ np.linalg.inv(scan.affine) @ grid.affine
    array = affine_transform(wider, matrix, output_shape=grid.shape, order=1, mode="constant")
    if scan.array.any() and not array.any():
        raise ValueError(
            f"{name} does not overlap with {other}: {scan.source or 'a scan'} and {grid.source or 'a scan'} have no "
            "voxel of one place in common. Expected scans of one subject, registered; check their affines."
        )
    return grid.like(array, name)
