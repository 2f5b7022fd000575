"""What the texts of a DICOM image say: its image type, its series' description and its protocol's name."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from meddiffusers.data.io.dicom_modality.tags import values_in
from meddiffusers.data.modalities import Recognized, modalities_named, recognize, recognize_path
from meddiffusers.data.modality_words import REGION

# In a description a region is one that was scanned, and MSK a department; in file names they are label maps.
_REGIONS = re.compile(rf"(?<![a-z])({'|'.join(sorted(REGION))})(?![a-z])", re.IGNORECASE)
# Values of ImageType that are abbreviated: Siemens and Philips.
_TYPES = {"P": "phase", "I": "phase", "F": "fat", "PROJECTION IMAGE": "mip"}


def by_image_type(dataset: Any) -> Recognized:
    """Another kind of image, or a diffusion-weighted one, that ImageType names; else silent."""
    values = [str(each) for each in values_in(dataset, "FrameType", "ImageType")[2:]]
    types = [_TYPES.get(each.upper(), each) for each in values]
    found = [recognize(text) for text in (" ".join(types), *types) if text.upper() != "MAGNITUDE"]
    for said in found:
        if not said.silent and not said.candidates and said.modality in ("", "dwi"):
            return replace(said, evidence=f"ImageType {said.evidence}")
    return Recognized()


def described(dataset: Any, path: Path, *, known: str = "") -> Recognized:
    """What the first text that says something says; description and protocol must not contradict each other.

    Args:
        dataset: of the image.
        path: whose name counts last.
        known: the modality, where it is known; the texts may then only name another kind of image.
    """
    series, protocol = _of(dataset, "SeriesDescription", known), _of(dataset, "ProtocolName", known)
    if not series.silent:
        return series if known else _agreed(series, protocol, modalities_named(_text(dataset, "ProtocolName")))
    for found in (protocol, _of(dataset, "SequenceName", known)):
        if not found.silent:
            return found
    found = recognize_path(path)
    return found if found.silent else replace(found, evidence=f"name: {found.evidence}")


def _of(dataset: Any, keyword: str, known: str) -> Recognized:
    text = _text(dataset, keyword)
    found = recognize(f"{known} {text}".strip()) if text.strip() else Recognized()
    return found if found.silent else replace(found, evidence=f"{keyword} {found.evidence}")


def _text(dataset: Any, keyword: str) -> str:
    return _REGIONS.sub(" ", str(dataset.get(keyword) or ""))


def _agreed(series: Recognized, protocol: Recognized, named: tuple[str, ...]) -> Recognized:
    """What the description says, unless the protocol's name contradicts it.

    A protocol may be named for a whole examination, with several modalities or none, and its images may be derived: it
    contradicts the description only where both say what a single image is. One that the description calls enhanced may
    have been scanned with the protocol of a plain one, but not the other way round.
    """
    modality, other = series.modality, protocol.modality
    both = f"{series.evidence}, but {protocol.evidence}"
    if not modality or modality == "labels" or not named or other in (modality, "labels"):
        return series
    if {modality, other} == {"t1", "t1ce"}:
        contradicted = protocol.without_agent if modality == "t1ce" else True
        denied = series.without_agent or protocol.without_agent
        return Recognized("", both, ("t1", "t1ce"), without_agent=denied) if contradicted else series
    if other:
        return Recognized("", both, (modality, other))
    if modality == "t1" and protocol.candidates == ("t1", "t1ce") and not series.without_agent:
        return Recognized("", both, protocol.candidates, without_agent=protocol.without_agent)
    return Recognized("", both) if not protocol.candidates and modality in named else series
