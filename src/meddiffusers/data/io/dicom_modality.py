"""The modality of a DICOM series, by its tags, which outrank texts: modality, agent, echo and inversion times.

Spin echoes, in ms:  T1 has TE ≤ 30 and TR ≤ 1200;  PD TE ≤ 40 and TR ≥ 1800;  T2 TE from 60 to 200 and TR ≥ 1800.
With an inversion pulse:  FLAIR has TI ≥ 1400 and TE ≥ 60;  T1 (MPRAGE, T1-FLAIR) TI from 400 to 1300 and TE ≤ 40.
A "FLAIR" with a TI below 300 is a STIR. Diffusion has b-values. Outside these limits, and for plain gradient echoes,
tags do not tell.

Of descriptions only words of `data.modality_words` are kept, never the text: it may name a patient.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from meddiffusers.data.io.dicom_files import KIND, SUFFIXES, is_dicom
from meddiffusers.data.io.library_errors import decoding
from meddiffusers.data.modalities import Recognized, recognize, recognize_path
from meddiffusers.data.modality_words import NEGATION, UNENHANCED, words_in
from meddiffusers.utils.optional import optional_import

DESCRIPTIONS = ("SeriesDescription", "ProtocolName", "SequenceName")
OF_MODALITY = {"CT": "ct", "US": "us", "SEG": "labels", "RTSTRUCT": "labels"}
FREE = ("MR", "OT", "SC", "")  # values of Modality with which texts and other tags tell
SHORT, LATE = 300, 10  # ms of inversion, and of a gradient echo
NO_AGENT = ("", "n", "0", "-", "na", "n/a")
NO_AGENT_WORDS = NEGATION | {"none", "unknown", "kein", "keine", "keines", "nil", "placebo", "saline"}
# What a text may say beside the times: an inversion time is not always recorded, and none show an agent.
COMPATIBLE = {"t1": ("t1", "t1ce"), "t2": ("t2", "flair"), "pd": ("pd", "t1", "t1ce", "flair"), "flair": ("flair",)}


def modality_of(dataset: Any, path: Path, named: Recognized | None = None) -> Recognized:
    """Recognize the modality of a series by one of its images.

    Args:
        dataset: of the image.
        path: of the file or folder, whose name counts last.
        named: what a name given by the user says, which counts before the descriptions.
    """
    kind = str(dataset.get("Modality") or "").upper()
    said = named if named and not named.silent else _described(dataset, path, "ct " if kind == "CT" else "")
    another = bool(said.evidence and not said.modality and not said.candidates)  # T2*, or a perfusion map of a CT
    if kind in OF_MODALITY:
        return said if another else Recognized(OF_MODALITY[kind], f"Modality {kind}")
    if kind not in FREE:
        return Recognized("", f"Modality {kind[:2]}")
    if another or said.modality in ("labels", "ct", "us", "cine"):
        return said
    return _with_agent(dataset, _weighted(dataset, said), said)


def modality_of_series(path: Path, named: Recognized) -> Recognized:
    """As `modality_of`, by the header of a file or of the first image in a folder."""
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())
    images = [file for file in files if file.suffix.lower() in SUFFIXES or is_dicom(file)]
    with decoding(str(path), KIND):
        dataset = optional_import("pydicom", "dicom").dcmread(images[0], stop_before_pixels=True, force=True)
        return modality_of(dataset, path, named)


def _described(dataset: Any, path: Path, known: str) -> Recognized:
    """What the first description that says something says, beside the `known` modality."""
    for keyword in DESCRIPTIONS:
        text = str(dataset.get(keyword) or "")
        found = recognize(known + text)
        if text and not found.silent:
            return Recognized(found.modality, f"{keyword} {found.evidence}", found.candidates)
    found = recognize_path(path)
    return found if found.silent else replace(found, evidence=f"name: {found.evidence}")


def _weighted(dataset: Any, said: Recognized) -> Recognized:
    """What the times of the sequence tell, where they do, else what was said."""
    if (_number(dataset, "DiffusionBValue") or 0) > 0:  # some scanners write 0 into every image
        return Recognized("dwi", "DiffusionBValue")
    modality, tags = _by_times(dataset)
    if said.modality == "t2" and _is_long_gradient_echo(dataset):
        return Recognized("", f"{said.evidence}, but a gradient echo: t2star")
    if said.modality == "flair" and 0 < (_number(dataset, "InversionTime", "InversionTimes") or 0) < SHORT:
        return Recognized("", f"{said.evidence}, but {tags}")  # it is fat, not water, that is suppressed
    agrees = not modality or said.modality in COMPATIBLE[modality]
    return said if agrees else Recognized(modality, tags)


def _by_times(dataset: Any) -> tuple[str, str]:
    """The modality that the times of a sequence tell, "" if none, and the tags."""
    echo, sequence = _echo(dataset), _sequence(dataset)
    repetition = _number(dataset, "RepetitionTime")
    inversion = _number(dataset, "InversionTime", "InversionTimes") or 0.0
    if not echo or repetition is None:
        return "", ""
    if inversion or "IR" in sequence:
        modality = "flair" if inversion >= 1400 and echo >= 60 and "EP" not in sequence else ""  # not labelled spins
        modality = "t1" if 400 <= inversion <= 1300 and echo <= 40 else modality
        return modality, f"EchoTime {echo:g}, InversionTime {inversion:g}"
    if not sequence & {"SE", "SPIN"} or sequence & {"GR", "EP"}:
        return "", ""
    modality = "t1" if echo <= 30 and repetition <= 1200 else ""
    if repetition >= 1800:
        modality = "t2" if 60 <= echo <= 200 else "pd" if echo <= 40 else ""
    return modality, f"EchoTime {echo:g}, RepetitionTime {repetition:g}"


def _is_long_gradient_echo(dataset: Any) -> bool:
    """Whether the sequence has gradient echoes alone, late enough for T2*."""
    sequence = _sequence(dataset)
    return (
        bool(sequence & {"GR", "EP", "GRADIENT"}) and not sequence & {"SE", "SPIN", "BOTH"} and _echo(dataset) >= LATE
    )


def _sequence(dataset: Any) -> set[str]:
    return {str(each).upper() for each in _values(dataset, "ScanningSequence", "EchoPulseSequence")}


def _echo(dataset: Any) -> float:
    """Echo time in ms; 0 if unknown."""
    return _number(dataset, "EchoTime", "EffectiveEchoTime") or 0.0


def _with_agent(dataset: Any, found: Recognized, said: Recognized) -> Recognized:
    """A T1-weighted image after a contrast agent is "t1ce"; a description that denies the agent conflicts."""
    tags = _agent_tags(dataset)
    if found.modality != "t1" or not tags:
        return found
    if UNENHANCED & {*said.evidence.replace(",", "").split()} or "without contrast" in said.evidence:
        return Recognized("", f"{said.evidence}, but {tags}", ("t1", "t1ce"))
    return Recognized("t1ce", f"{found.evidence}, {tags}")


def _agent_tags(dataset: Any) -> str:
    """The tags that say that a contrast agent was given; "" if none does."""
    tags = []
    for keyword in ("ContrastBolusAgent", "ContrastBolusIngredient"):
        if any(_names_an_agent(str(each)) for each in _values(dataset, keyword)):
            tags.append(keyword)
    if _values(dataset, "ContrastBolusAgentSequence"):
        tags.append("ContrastBolusAgentSequence")
    tags += [name for name in ("ContrastBolusVolume", "ContrastBolusTotalDose") if (_number(dataset, name) or 0) > 0]
    return ", ".join(tags)


def _names_an_agent(text: str) -> bool:
    return text.strip().lower() not in NO_AGENT and not {*words_in(text)} & NO_AGENT_WORDS


def _number(dataset: Any, *keywords: str) -> float | None:
    try:
        return float(_values(dataset, *keywords)[0])
    except (IndexError, TypeError, ValueError):
        return None


def _values(dataset: Any, *keywords: str) -> list[Any]:
    """Values of the first keyword that the data set, or the groups of an enhanced file's first frame, has."""
    groups = [dataset]
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for sequence in list(dataset.get(name) or [])[:1]:
            groups += [item for element in sequence if element.VR == "SQ" for item in list(element.value)[:1]]
    for keyword in keywords:
        for group in groups:
            value = group.get(keyword)
            if value is not None and value != "":
                multiple = not isinstance(value, str | bytes) and hasattr(value, "__iter__")
                return list(value) if multiple else [value]
    return []
