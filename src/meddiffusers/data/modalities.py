"""Names of modalities, and what file names, folders and series descriptions say of them.

A name is parsed, not searched. Pairs of BIDS are interpreted. What follows "to", "in" or "coreg" is the target of a
registration and is dropped: a moved image keeps its own modality. The words that remain are looked up; where they name
several modalities that no known combination explains, the name gives none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import PurePath

from meddiffusers.data.bids import SUFFIXES, BidsName, parse_bids
from meddiffusers.data.contrast_agent import agent_in
from meddiffusers.data.contrast_words import CONTRAST, SHORT_DENIALS
from meddiffusers.data.modality_words import (
    AMBIGUOUS,
    CHEMICAL,
    DIFFUSIVITY,
    ECHO,
    FINDING,
    IN_CT,
    LABELS,
    MASK,
    ORIENTATION,
    OTHER,
    PLAIN,
    REGION,
    SYNTHETIC,
    TISSUE,
    VAGUE,
    is_known,
    kind_of,
    words_in,
)
from meddiffusers.data.registration_target import without_target

__all__ = ["LABELS", "MODALITIES", "Recognized", "modality_in", "recognize", "recognize_path", "without_ending"]

MODALITIES = (LABELS, "flair", "t1ce", "t1", "t2", "pd", "dwi", "us", "cine", "ct")
_ENDING = re.compile(r"\.(nii|nii\.gz|mgz|mgh|hdr|img|nrrd|nhdr|mha|mhd|dcm|dicom|ima)$", re.IGNORECASE)
SHOWN = FINDING | TISSUE | {"roi", "rois", "voi", "vois"}  # images show them, label maps outline them
_MAP, _MAPPED = frozenset({"map", "maps"}), FINDING | MASK | {"adc"}  # a label map, an ADC map


@dataclass(frozen=True)
class Recognized:
    """What a name, or a DICOM header, says of a scan.

    Attributes:
        modality: one of `MODALITIES`; "" where it names none, where it names another kind of image (T2*, a map,
            perfusion …), and where its words conflict.
        evidence: the words or tags that say it; "" only where nothing is said.
        candidates: the modalities that conflicting words name.
        without_agent: whether they deny that a contrast agent was given.
    """

    modality: str = ""
    evidence: str = ""
    candidates: tuple[str, ...] = ()
    without_agent: bool = False

    @property
    def silent(self) -> bool:
        """Whether nothing was said, so that a folder's name or a tag may still tell."""
        return not self.evidence

    def __str__(self) -> str:
        if self.candidates:
            return f"{self.evidence}: {' or '.join(self.candidates)}"
        return self.evidence if self.modality or self.silent else f"{self.evidence}: another kind of image"


def recognize(text: str) -> Recognized:
    """Recognize the modality in a file name without its ending, or in a description.

    Args:
        text: for instance "sub-01_ce-gadolinium_T1w" or "AX T1 FS POST".

    Example:
        >>> recognize("T2_to_T1").modality, recognize("AX T1 FS POST").modality, recognize("T1_T2").candidates
        ('t2', 't1ce', ('t1', 't2'))
    """
    name = parse_bids(text)
    if other := name.another_image:
        return Recognized("", other)
    found = _of_suffix(name) if name.suffix in SUFFIXES else _of_words(without_target(words_in(name.rest)))
    return _with_entities(found, name) if found.modality in ("t1", "t1ce") else found


def recognize_path(path: PurePath, folder: PurePath | None = None) -> Recognized:
    """Recognize the modality of a scan by its file name, else by the innermost folder that says something.

    A folder for label maps, such as labels or labelsTr, outranks the name: it holds label maps of the images so named.

    Args:
        path: of the scan.
        folder: folders above this one, and itself, do not count; by default none does.
    """
    above = path.relative_to(folder).parts[:-1] if folder else ()
    if labels := next(filter(_holds_labels, above), ""):
        return Recognized(LABELS, f"folder {labels}")
    said = (recognize(without_ending(path.name)), *map(_of_folder, reversed(above)))
    return next((each for each in said if not each.silent), Recognized())


def modality_in(text: str) -> str:
    """Modality in a file name without its ending, or in a description; "" if it names none or its words conflict."""
    return recognize(text).modality


def modalities_named(text: str) -> tuple[str, ...]:
    """The modalities that a text names beyond doubt, whatever it says of them."""
    return tuple(_named(words_in(text)))


def without_ending(name: str) -> str:
    """File name without the ending of a format of scans."""
    return _ENDING.sub("", name)


def without_known_words(text: str) -> str:
    """What a name says of the subject: its parts without words on the image or its processing, joined by "_"."""
    name = parse_bids(text)
    parts = [f"{key}-{name.entities[key]}" for key in ("sub",) if key in name.entities]
    rest = re.split(r"[ _.-]+", name.rest)
    denying = {part for part, next_ in pairwise(rest) if part.lower() in SHORT_DENIALS and next_.lower() in CONTRAST}
    parts += [part for part in rest if part not in denying and not all(map(is_known, words_in(part)))]
    return "_".join(parts)


def _of_folder(name: str) -> Recognized:
    """What a folder says of the scans in it; of findings ("tumor") and of several modalities it says nothing."""
    found = recognize(name)
    return Recognized() if found.candidates or found.modality == LABELS else found


def _holds_labels(folder: str) -> bool:
    words = words_in(folder)
    return any(word in MASK for word in words) and all(map(is_known, words)) and recognize(folder).modality == LABELS


def _of_suffix(name: BidsName) -> Recognized:
    """Recognize by a suffix of BIDS and by what is said beside it, which may be another image or another modality."""
    modality, said = SUFFIXES[name.suffix], f"suffix {name.suffix}"
    if modality in ("", LABELS):
        return Recognized(modality, said)
    words = [modality, *(word for value in name.said_of_image for word in words_in(value))]
    synthetic = [word for word in words if word in SYNTHETIC]
    if another := [word for word in _another_kind(words, [modality]) or synthetic if word != modality]:
        return Recognized("", _listed([said, *another]))
    if masks := [*_masks(words), *(key for key in ("label", "seg") if key in name.entities)]:
        return Recognized("", _listed([said, *masks]), (modality, LABELS))
    named = _named(words)
    if _combined(words, named) not in (modality, "t1ce" if modality == "t1" else modality):
        return Recognized("", _listed([said, *(word for word in words[1:] if kind_of(word, PLAIN))]), tuple(named))
    return Recognized(modality, said)


def _with_entities(found: Recognized, name: BidsName) -> Recognized:
    """A T1-weighted image, before or after the contrast agent of which pairs of BIDS speak."""
    said = name.agent
    denied = said.denied and found.modality == "t1ce"
    if said.conflicts or denied or (said.given and found.without_agent):
        return Recognized("", _listed([found.evidence, *said.words]), ("t1", "t1ce"))
    if said.given and found.modality == "t1":
        return replace(found, modality="t1ce", evidence=f"{found.evidence} of a contrast agent")
    return replace(found, without_agent=found.without_agent or bool(said.denied))


def _named(words: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(kind for word in words if (kind := kind_of(word, PLAIN))))


def _of_words(words: Sequence[str]) -> Recognized:
    """Recognize by words: other kinds of images first, then label maps, then modalities."""
    named = _named(words)
    if another := _another_kind(words, named):
        return Recognized("", _listed(another))
    if masks := _masks(words):
        return Recognized(LABELS, _listed(masks))
    if synthetic := [word for word in words if word in SYNTHETIC]:
        return Recognized("", _listed(synthetic))
    clear = {"tirm"} if {*named} - {"t2"} else set[str]()  # "t1_tirm", "tirm dark-fluid"
    if ambiguous := [word for word in words if word in {*AMBIGUOUS} - clear]:
        return Recognized("", _listed(ambiguous), AMBIGUOUS[ambiguous[0]])
    if not named:
        return _of_vague_words(words)
    said = _listed(word for word in words if kind_of(word, PLAIN))
    shown = [word for place, word in enumerate(words) if word in SHOWN and not _numbered(words, place)]
    if shown:  # "lesion_T1": its outline, or the image that shows it
        return Recognized("", _listed([said, *shown]), (*named, LABELS))
    kind = _combined(words, named)
    if not kind:
        return Recognized("", said, tuple(named))
    return _with_contrast(words, kind, said) if kind in ("t1", "t1ce") else Recognized(kind, said)


def _another_kind(words: Sequence[str], named: Sequence[str]) -> list[str]:
    """The words by which the image is none of the modalities."""
    said = {*words}
    allowed = (IN_CT if "ct" in named else frozenset()) | (_MAP if said & _MAPPED else frozenset())
    if others := [word for word in words if word in OTHER - allowed]:
        return others
    if {"mp2rage", "images"} <= said and "uni" not in said:  # Siemens: …_T1_Images is the map, …_UNI_Images weighted
        return ["mp2rage", "images"]
    if "ct" in named and said & {"mr", "mri"}:
        return ["ct", "mr"]
    if "f" in said and said & CHEMICAL:
        return ["dixon", "fat"]
    with_it = ECHO if named == ["t2"] else DIFFUSIVITY if named == ["dwi"] else frozenset()
    derived = [word for word in words if word in with_it]
    return [*(word for word in words if kind_of(word, PLAIN)), *derived] if derived else []


def _masks(words: Sequence[str]) -> list[str]:
    """Words for label maps that speak of the file: at its end, behind or beside the modality, or without one."""
    words = [word for word in words if word not in ORIENTATION | CONTRAST and not word.isdigit()]
    named = [place for place, word in enumerate(words) if kind_of(word, PLAIN)]
    return [
        word
        for place, word in enumerate(words)
        if (word in MASK and (not named or place > max(named) or any(abs(place - each) == 1 for each in named)))
        or (word in REGION and place == len(words) - 1)
    ]


def _of_vague_words(words: Sequence[str]) -> Recognized:
    said = [word for word in words if kind_of(word, VAGUE)]
    kinds = tuple(dict.fromkeys(kind_of(word, VAGUE) for word in said))
    if len(kinds) > 1:
        return Recognized("", _listed(said), kinds)
    if kinds == ("t1",):
        return _with_contrast(words, "t1", _listed(said))
    if kinds:
        return Recognized(kinds[0], _listed(said))
    findings = [word for word in words if word in FINDING]
    return Recognized(LABELS, _listed(findings)) if findings else Recognized()


def _numbered(words: Sequence[str], place: int) -> bool:
    """Whether a word names a numbered subject, as in tumour_1_t1ce."""
    return words[place + 1 : place + 2] != [] and words[place + 1].isdigit()


def _combined(words: Sequence[str], named: Sequence[str]) -> str:
    """One modality for several names: T2-FLAIR is a FLAIR, T1-FLAIR (in this order) T1-weighted, T1 and T1ce T1ce."""
    if len(named) == 1:
        return named[0]
    if set(named) == {"t2", "flair"}:
        return "flair"
    if set(named) == {"t1", "t1ce"}:
        return "t1ce"
    images = [word for word in words if word not in ORIENTATION | CONTRAST]
    pairs = [(kind_of(one, PLAIN), kind_of(next_, PLAIN)) for one, next_ in pairwise(images)]
    return "t1" if list(named) == ["t1", "flair"] and ("t1", "flair") in pairs else ""


def _with_contrast(words: Sequence[str], kind: str, said: str) -> Recognized:
    """A T1-weighted image, before or after a contrast agent; what precedes a "t1ce" is not asked: "pre_t1ce"."""
    if kind == "t1ce":
        words = words[1 + max((place for place, word in enumerate(words) if word in PLAIN["t1ce"]), default=-1) :]
    agent = agent_in([word for word in words if word != "native" or kind == "t1"])  # "t1ce_native": the space
    if agent.conflicts or (agent.denied and kind == "t1ce"):
        return Recognized("", _listed([said, *agent.words]), ("t1", "t1ce"), bool(agent.denied))
    modality = "t1ce" if agent.given else kind
    return Recognized(modality, _listed([said, *agent.words]), without_agent=bool(agent.denied))


def _listed(words: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(words))
