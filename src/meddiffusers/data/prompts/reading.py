"""Parse the facts of a prompt: exactly for prompts of `writing`, and tolerantly for free text."""

from __future__ import annotations

import re
from typing import Any, cast

from meddiffusers.data.prompts.facts import PLANES, SliceFacts
from meddiffusers.data.prompts.wording import REGION_IDS

_NAMES = "|".join(re.escape(name) for name in sorted(REGION_IDS, key=len, reverse=True))  # longest match first
_MM3 = r"(\d+(?:\.\d+)?) ?mm(?:³|\^?3)"
_REGION = re.compile(
    rf"({_NAMES})(?: of volume| with| measuring|:| \(| of)? ?\(?{_MM3}|{_MM3} of (?:the )?({_NAMES})", re.I
)
_MODALITIES = {  # the first match counts
    "t1ce": r"(contrast-enhanced|post-contrast) T1|T1\S*,? (with|after) contrast|\bT1ce\b",
    "flair": r"\bFLAIR\b",
    "t1": r"\bT1\b",
    "t2": r"\bT2\b",
    "pd": r"proton[ -]density|\bPD\b",
    "dwi": r"diffusion-weighted|\bDWI\b",
    "us": r"ultrasound",
    "cine": r"\bcine\b",
    "ct": r"\bCT\b",
}
_SEXES = {"F": r"\b(woman|female|girl)\b", "M": r"\b(man|male|boy)\b"}
_AGE = re.compile(r"\b(\d+)[ -]years?[ -]old|\baged? (\d+)|\bof (\d+) years", re.I)
_NUMBER = re.compile(r"\bslice (?:number )?(\d+)", re.I)
_EDGE = r"(\d+(?:\.\d+)?)"
_VOXEL = re.compile(rf"{_EDGE} ?[×x] ?{_EDGE} ?[×x] ?{_EDGE} ?mm\b", re.I)


def read_prompt(text: str) -> SliceFacts:
    """Parse modality, sex, age, plane (default axial), slice number, voxel size and volumes from a text.

    Raises:
        ValueError: the text has no modality, or a value out of its range.
    """
    modality = _first(_MODALITIES, text)
    if modality is None:
        raise ValueError(f"Found no modality in {text!r}; expected a word such as T1-weighted, T2-weighted or FLAIR.")
    age, number, voxel = (pattern.search(text) for pattern in (_AGE, _NUMBER, _VOXEL))
    plane: Any = next((plane for plane in PLANES if re.search(rf"\b{plane}\b", text, re.I)), PLANES[0])
    return SliceFacts(
        modality=modality,
        sex=_first(_SEXES, text),
        age=int(next(filter(None, age.groups()))) if age else None,
        plane=plane,
        number=int(number[1]) if number else None,
        voxel=cast(tuple[float, float, float], tuple(map(float, voxel.groups()))) if voxel else None,
        volumes=read_volumes(text),
    )


def read_volumes(text: str) -> dict[int, int]:
    """Parse the volumes of regions from a text: mm³ by id of `data.regions`."""
    volumes = {}
    for match in _REGION.finditer(text):
        name, mm3 = (match[1], match[2]) if match[1] else (match[4], match[3])
        volumes[REGION_IDS[name.lower()]] = round(float(mm3))
    return volumes


def mirrored_prompt(text: str) -> str:
    """The prompt of the slice flipped left to right: "left" and "right" are exchanged."""
    swapped = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
    return re.sub(r"\b([Ll]eft|[Rr]ight)\b", lambda match: swapped[match[0]], text)


def _first(patterns: dict[str, str], text: str) -> str | None:
    return next((name for name, pattern in patterns.items() if re.search(pattern, text, re.I)), None)
