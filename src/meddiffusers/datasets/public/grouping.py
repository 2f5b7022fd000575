"""Group the files of a folder without a table by subject and modality, which their names give."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, takewhile
from pathlib import Path

from meddiffusers.data.bids import parse_bids
from meddiffusers.data.io.dicom_files import SUFFIXES, is_dicom
from meddiffusers.data.modalities import LABELS, MODALITIES, modality_in, recognize_path
from meddiffusers.datasets.public.errors import Issue
from meddiffusers.datasets.public.finding import Index, Row, below
from meddiffusers.datasets.subjects.names import (
    canonical,
    is_group,
    may_be_visit,
    names_split,
    person_in,
    without_content,
    without_groups,
    without_visits,
)
from meddiffusers.utils.text import some_of

SCAN = re.compile(r"(?P<stem>.+?)\.(nii|nii\.gz|hdr|mgh|mgz|nrrd|nhdr|mha|mhd)", re.IGNORECASE)
IMAGE = "image"  # column of scans whose names give no modality
# Pairs of a BIDS name that tell what its image is, not which: images that differ in these alone are one row.
_OF_IMAGE = ("ce", "mod", "space", "desc", "label", "res", "den", "atlas", "seg")
_NUMBERED = re.compile(r"[^\W\d]+[_-]?\d+")  # as subjects are in folders of sites or groups
COLUMNS = (IMAGE, *(name for name in MODALITIES if name != LABELS), LABELS)


@dataclass(frozen=True)
class Named:
    """A scan.

    Attributes:
        path: of the scan.
        column: its modality, or `IMAGE`.
        folders: names of the folders above it that tell rows apart.
        people: of these, those that may be subjects, without visits.
        rest: its name without the modality.
        subject: what its name says of the subject; "" if nothing.
        conflict: the modalities that its name says, if several.
    """

    path: Path
    column: str
    folders: tuple[str, ...]
    people: tuple[str, ...]
    rest: str
    subject: str
    conflict: str


def scans_below(folder: Path) -> Iterator[Path]:
    """Scan files, and folders with DICOM files, at any depth, sorted."""
    for path in (folder, *below(folder)):
        is_scan = any(map(_is_image_of_series, path.iterdir())) if path.is_dir() else SCAN.fullmatch(path.name)
        if is_scan:
            yield path


def group(index: Index) -> list[str]:
    """Add the folder's scans as rows, and return all columns."""
    named = _without_visits([_named(path, index.folder) for path in scans_below(index.folder)])
    columns = [name for name in COLUMNS if any(scan.column == name for scan in named)]
    levels = zip(*(scan.people for scan in named if scan.people), strict=False)
    shared = sum(1 for _ in takewhile(lambda names: len({*names}) == 1, levels))
    of_row: dict[tuple[str, ...], list[Named]] = {}
    for scan in named:
        of_row.setdefault((*scan.folders, scan.rest), []).append(scan)
    for place, scans in of_row.items():
        subject = _subject(scans[0], shared) or index.folder.name
        name = "/".join(filter(None, place)) or subject
        paths = {column: [scan.path for scan in scans if scan.column == column] for column in columns}
        index.rows.append(
            Row(subject, name, {column: index.single(subject, column, same) for column, same in paths.items()})
        )
        index.issues.extend(
            Issue(subject, f"{scan.path.name}: the name says {scan.conflict}; expected one modality: rename it")
            for scan in scans
            if scan.conflict
        )
    index.notes.extend(_doubts(named, shared))
    for column in columns:
        if lacking := [row.name for row in index.rows if not row.scans[column]]:
            index.notes.append(f"no {column} for {some_of(lacking)}")
    return columns


def _subject(scan: Named, shared: int) -> str:
    """The subject of a BIDS name, else the outermost folder not shared by all, else the name, else the inner folder."""
    folder = next(iter(scan.people[shared:]), "")
    if scan.subject.startswith("sub-"):
        return scan.subject
    inner = (next(reversed(each), "") for each in (scan.people, scan.folders))
    return folder or scan.subject or scan.rest or next(filter(None, inner), "")


def _without_visits(named: Sequence[Named]) -> Sequence[Named]:
    """Leave folders such as M06 and M12 out of what may be subjects, if they hold scans of the same ones."""
    places = defaultdict[str, set[str]](set)
    for scan in named:
        inner = [name for name in scan.people if not may_be_visit(name)]
        for visit in filter(may_be_visit, scan.people):
            places[canonical(next(iter(inner), scan.subject))].add(visit)
    places.pop("", None)
    if all(len(visits) < 2 for visits in places.values()):
        return named
    return [replace(scan, people=tuple(name for name in scan.people if not may_be_visit(name))) for scan in named]


def _doubts(named: Sequence[Named], shared: int) -> Iterator[str]:
    """Notes on what the names do not tell: what may be one subject and counts as several, or the other way round."""
    if splits := {part for scan in named for part in scan.folders if names_split(part)}:
        yield f"folders named after splits ({some_of(splits)}) are not kept: scans are split anew, by subject"
    files, owners = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    starts, bare = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    for scan in named:
        subject = _subject(scan, shared)
        inner = [part for part in scan.people[shared + 1 :] if _NUMBERED.fullmatch(part)]
        for part in inner:
            owners[canonical(part)].add(subject)
        if scan.subject == subject:
            starts[re.sub(r"[ _.-][^ _.-]*$", "", subject)].add(subject)
            bare[without_groups(subject)].add(subject)  # "train_p1" and "p1"
        elif not inner and scan.subject:
            files[subject].add(scan.subject)
    for subject, names in files.items():
        if len(names) > 1:
            yield f"folder {subject} counts as one subject, with scans of {some_of(names)}: give a table if it is none"
    for part, subjects in owners.items():
        if len(subjects) > 1:
            yield f"{part} is in {some_of(subjects)}, which count as several subjects: give a table if it is one"
    for names in (*bare.values(), *(starts.values() if len(starts) > 1 else ())):
        if len(names) > 1:
            yield f"{some_of(names)} count as {len(names)} subjects: give a table or folders if they are visits of one"


def _named(path: Path, folder: Path) -> Named:
    above = path.relative_to(folder).parent.parts if path != folder else ()
    match = None if path.is_dir() else SCAN.fullmatch(path.name)
    stem = match["stem"] if match else path.name
    found = recognize_path(path, folder) if path != folder else recognize_path(path)
    return Named(
        path,
        column=found.modality or IMAGE,
        folders=tuple(filter(None, map(without_content, above))),
        people=tuple(without_visits(name) for name in above if not is_group(name)),
        rest=_without_modality(stem),
        subject=person_in(stem),
        conflict=str(found) if found.candidates else "",
    )


def _without_modality(stem: str) -> str:
    """Remove the fewest words that name the modality: "p7" from "p7_t1_ce"; and what a BIDS name says of the image."""
    entities = parse_bids(stem).entities
    if "sub" in entities:
        return "_".join(f"{key}-{value}" for key, value in entities.items() if key not in _OF_IMAGE)
    parts = re.split(r"([ _.-]+)", stem)  # words and separators
    ends: Sequence[tuple[int, int]] = sorted(combinations(range(len(parts) + 1), 2), key=lambda run: run[1] - run[0])
    modality = modality_in(stem)
    if not modality:
        return stem
    start, end = next(run for run in ends if modality_in("".join(parts[slice(*run)])) == modality)
    sides = ("".join(side).strip(" _.-") for side in (parts[:start], parts[end:]))
    return "_".join(filter(None, sides))


def _is_image_of_series(path: Path) -> bool:
    """Whether the file is a DICOM image, by suffix or magic number; not a DICOMDIR."""
    if not path.is_file() or path.name.upper() == "DICOMDIR" or SCAN.fullmatch(path.name):
        return False
    return path.suffix.lower() in SUFFIXES or is_dicom(path)
