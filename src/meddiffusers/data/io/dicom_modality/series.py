"""The modality of an image and of a whole series."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from meddiffusers.data.io.dicom_files import KIND, SUFFIXES, is_dicom, parse
from meddiffusers.data.io.dicom_modality.agent import agent_of
from meddiffusers.data.io.dicom_modality.descriptions import by_image_type, described
from meddiffusers.data.io.dicom_modality.tags import kinds_of_frames
from meddiffusers.data.io.dicom_modality.times import weighted
from meddiffusers.data.io.library_errors import decoding
from meddiffusers.data.modalities import LABELS, Recognized

OF_MODALITY = {"CT": "ct", "US": "us", "SEG": LABELS, "RTSTRUCT": LABELS}
FREE = ("MR", "OT", "SC", "")  # values of Modality with which texts and other tags tell
T1 = ("t1", "t1ce")


def modality_of(dataset: Any, path: Path, named: Recognized | None = None) -> Recognized:
    """Recognize the modality of an image.

    Args:
        dataset: of the image.
        path: of the file or folder, whose name counts last.
        named: what a name given by the user says, which counts before the descriptions.
    """
    kind = str(dataset.get("Modality") or "").upper()
    said = named if named and not named.silent else described(dataset, path, known="ct" if kind == "CT" else "")
    another = bool(said.evidence and not said.modality and not said.candidates)  # T2*, or a perfusion map of a CT
    if kind in OF_MODALITY:
        return said if another else Recognized(OF_MODALITY[kind], f"Modality {kind}")
    if kind not in FREE:
        return Recognized("", f"Modality {kind[:2]}")
    if said.modality == LABELS:
        return said
    if not (typed := by_image_type(dataset)).silent:
        return typed
    if another or said.modality in ("ct", "us", "cine"):
        return said
    return _with_agent(dataset, weighted(dataset, said), said)


def modality_of_images(datasets: Sequence[Any], path: Path, named: Recognized | None = None) -> Recognized:
    """As `modality_of`, for all images and frames of a series; what some say and others contradict is a conflict."""
    found = [modality_of(kind, path, named) for dataset in datasets for kind in kinds_of_frames(dataset)]
    kinds = {(each.modality, each.candidates): each for each in reversed(found) if not each.silent}
    if len(kinds) < 2:
        return next(iter(kinds.values()), found[0])
    shown = "; ".join(dict.fromkeys(map(str, reversed(kinds.values()))))
    possible = {name for modality, candidates in kinds for name in (*candidates, modality) if name}
    return Recognized("", f"images of one series that disagree ({shown})", tuple(sorted(possible)))


def modality_of_series(path: Path, named: Recognized) -> Recognized:
    """As `modality_of_images`, by the header of a file or of all images in a folder."""
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())
    files = [file for file in files if not file.name.startswith(".")] or files
    images = [file for file in files if file.suffix.lower() in SUFFIXES or is_dicom(file)]
    with decoding(str(path), KIND):
        datasets = [parse(image, stop_before_pixels=True) for image in images]
        with_pixels = [dataset for dataset in datasets if "Rows" in dataset]  # no report, and no DICOMDIR
        return modality_of_images(with_pixels or datasets, path, named)


def _with_agent(dataset: Any, found: Recognized, said: Recognized) -> Recognized:
    """A T1-weighted image, before or after the contrast agent of which tags and texts speak."""
    agent = agent_of(dataset)
    tags, doubtful = ", ".join(agent.words), found.candidates == T1
    if found.modality not in T1 and not doubtful:
        return found
    denied = found.without_agent or said.without_agent
    contradicted = (agent.given and (agent.denied or denied)) or (found.modality == "t1ce" and agent.denied)
    if contradicted or (found.modality == "t1" and agent.hinted and not denied):
        return Recognized("", f"{found.evidence}, but {tags}", T1, without_agent=denied)
    if agent.given and found.modality != "t1ce":
        return Recognized("t1ce", f"{found.evidence}, {tags}")
    return Recognized("t1", f"{found.evidence}, {tags}") if doubtful and agent.denied else found
