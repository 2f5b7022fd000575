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

from meddiffusers.data.bids import SUFFIXES, parse_bids
from meddiffusers.data.modality_words import (
    AFTER_POST,
    AMBIGUOUS,
    CONTRAST,
    DIFFUSIVITY,
    ECHO,
    FINDING,
    IN_CT,
    LABELS,
    MASK,
    NEGATION,
    ORIENTATION,
    OTHER,
    PLAIN,
    SPACE,
    SPACES,
    TARGET,
    TISSUE,
    UNENHANCED,
    VAGUE,
    is_known,
    words_in,
)

__all__ = ["LABELS", "MODALITIES", "Recognized", "modality_in", "recognize", "recognize_path", "without_ending"]

MODALITIES = (LABELS, "flair", "t1ce", "t1", "t2", "pd", "dwi", "us", "cine", "ct")
_ENDING = re.compile(r"\.(nii|nii\.gz|mgz|hdr|img|nrrd|nhdr|mha|mhd|dcm|dicom|ima)$", re.IGNORECASE)
_MAP, _MAPPED = frozenset({"map", "maps"}), FINDING | MASK | {"adc"}  # a label map, an ADC map


@dataclass(frozen=True)
class Recognized:
    """What a name, or a DICOM header, says of a scan.

    Attributes:
        modality: one of `MODALITIES`; "" where it names none, where it names another kind of image (T2*, a map,
            perfusion …), and where its words conflict.
        evidence: the words or tags that say it; "" only where nothing is said.
        candidates: the modalities that conflicting words name.
    """

    modality: str = ""
    evidence: str = ""
    candidates: tuple[str, ...] = ()

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
    if name.suffix in SUFFIXES:
        found = Recognized(SUFFIXES[name.suffix], f"suffix {name.suffix}")
    else:
        found = _of_words(_without_target(words_in(name.rest)))
    if found.modality == "t1" and name.contrast_agent:
        return replace(found, modality="t1ce", evidence=f"{found.evidence} of a contrast agent")
    return found


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


def without_ending(name: str) -> str:
    """File name without the ending of a format of scans."""
    return _ENDING.sub("", name)


def without_known_words(text: str) -> str:
    """What a name says of the subject: its parts without words on the image or its processing, joined by "_"."""
    name = parse_bids(text)
    parts = [f"{key}-{name.entities[key]}" for key in ("sub",) if key in name.entities]
    parts += [part for part in re.split(r"[ _.-]+", name.rest) if not all(map(is_known, words_in(part)))]
    return "_".join(parts)


def _of_folder(name: str) -> Recognized:
    """What a folder says of the scans in it; of findings ("tumor") and of several modalities it says nothing."""
    found = recognize(name)
    return Recognized() if found.candidates or found.modality == LABELS else found


def _holds_labels(folder: str) -> bool:
    words = words_in(folder)
    return any(word in MASK for word in words) and all(map(is_known, words)) and recognize(folder).modality == LABELS


def _kind(word: str, spellings: dict[str, frozenset[str]]) -> str:
    return next((name for name, words in spellings.items() if word in words), "")


def _without_target(words: list[str]) -> list[str]:
    """The words without the target of a registration; words behind it for labels or other images speak of the file."""
    for place, word in enumerate(words[1:-1], 1):
        before, after = words[:place], words[place + 1 :]
        moved = any(_kind(each, PLAIN) or each in MASK for each in before)
        two = word == "2" and _kind(words[place - 1], PLAIN) and (_kind(after[0], PLAIN) or after[0] in SPACES)
        if moved and (word in TARGET or two):
            target = next((each for each in after if each not in TARGET), "")
            return [*before, *(each for each in after if each in MASK | OTHER and each != target)]
    images = [place for place, word in enumerate(words) if _kind(word, PLAIN)]
    for place in images[1:]:
        sequence = {_kind(words[other], PLAIN) for other in images[:2]} == {"t2", "flair"}  # Siemens: t2_flair_space
        if words[place + 1 : place + 2] and words[place + 1] in SPACE and not sequence:
            return words[:place] + words[place + 2 :]
    return words


def _of_words(words: Sequence[str]) -> Recognized:
    """Recognize by words: other kinds of images first, then label maps, then modalities."""
    named = list(dict.fromkeys(kind for word in words if (kind := _kind(word, PLAIN))))
    if another := _another_kind(words, named):
        return Recognized("", _listed(another))
    if masks := _masks(words):
        return Recognized(LABELS, _listed(masks))
    if ambiguous := [word for word in words if word in AMBIGUOUS]:
        return Recognized("", _listed(ambiguous), AMBIGUOUS[ambiguous[0]])
    if not named:
        return _of_vague_words(words)
    said = _listed(word for word in words if _kind(word, PLAIN))
    shown = [word for place, word in enumerate(words) if word in FINDING | TISSUE and not _numbered(words, place)]
    if shown:  # "lesion_T1": its outline, or the image that shows it
        return Recognized("", _listed([said, *shown]), (*named, LABELS))
    kind = _combined(words, named)
    if not kind:
        return Recognized("", said, tuple(named))
    return _with_contrast(words, said) if kind == "t1" else Recognized(kind, said)


def _another_kind(words: Sequence[str], named: Sequence[str]) -> list[str]:
    """The words by which the image is none of the modalities."""
    said = {*words}
    allowed = (IN_CT if "ct" in named else frozenset()) | (_MAP if said & _MAPPED else frozenset())
    if others := [word for word in words if word in OTHER - allowed]:
        return others
    if {"mp2rage", "images"} <= said and "uni" not in said:  # Siemens: …_T1_Images is the map, …_UNI_Images weighted
        return ["mp2rage", "images"]
    with_it = ECHO if named == ["t2"] else DIFFUSIVITY if named == ["dwi"] else frozenset()
    derived = [word for word in words if word in with_it]
    return [*(word for word in words if _kind(word, PLAIN)), *derived] if derived else []


def _masks(words: Sequence[str]) -> list[str]:
    """Words for label maps that speak of the file: at its end, behind or beside the modality, or without one."""
    named = [place for place, word in enumerate(words) if _kind(word, PLAIN)]
    return [
        word
        for place, word in enumerate(words)
        if word in MASK and (not named or place > max(named) or any(abs(place - each) == 1 for each in named))
    ]


def _of_vague_words(words: Sequence[str]) -> Recognized:
    said = [word for word in words if _kind(word, VAGUE)]
    kinds = tuple(dict.fromkeys(_kind(word, VAGUE) for word in said))
    if len(kinds) > 1:
        return Recognized("", _listed(said), kinds)
    if kinds == ("t1",):
        return _with_contrast(words, _listed(said))
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
    pairs = [(_kind(one, PLAIN), _kind(next_, PLAIN)) for one, next_ in pairwise(images)]
    return "t1" if list(named) == ["t1", "flair"] and ("t1", "flair") in pairs else ""


def _with_contrast(words: Sequence[str], said: str) -> Recognized:
    """A T1-weighted image, before or after a contrast agent."""
    given, denied = list[str](), list[str]()
    for place, word in enumerate(words):
        timing = word == "post" and {*words[place + 1 : place + 2]} & AFTER_POST
        if word in CONTRAST and not timing:
            (denied if _is_denied(words, place) else given).append(word)
    without = [*("without contrast" for _ in denied), *(word for word in words if word in UNENHANCED)]
    if given and (denied or "pre" in words):
        return Recognized("", _listed([said, *without, *given]), ("t1", "t1ce"))
    return Recognized("t1ce", _listed([said, *given])) if given else Recognized("t1", _listed([said, *without]))


def _is_denied(words: Sequence[str], place: int) -> bool:
    """Whether a negation stands before a word, with at most one other between: "without iv contrast"."""
    before = words[max(0, place - 2) : place]
    return bool({*before[-1:]} & NEGATION) or bool({*before[:1]} & NEGATION and not _kind(before[-1], PLAIN))


def _listed(words: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(words))
