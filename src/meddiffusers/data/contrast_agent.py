"""Whether words say that a contrast agent was given.

A word for an agent counts, unless a negation reaches it: "sans injection de produit de contraste", "KM-frei". "post",
"contrast" and "enhanced" count where the words beside them leave no other meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from meddiffusers.data.contrast_words import (
    AFTER,
    AGENTS,
    AND,
    BEFORE,
    BETWEEN,
    CONTRAST,
    CONTRASTS,
    DENIALS,
    DENIED_BEHIND,
    ENHANCED,
    EVENT_WORDS,
    EVENTS,
    LONG_TIMES,
    MINUTES,
    NEGATION,
    PHASES,
    POST,
    QUALITIES,
    SCANNED,
    SHORT_DENIALS,
    STEPS,
    UNENHANCED,
    WITH,
)
from meddiffusers.data.modality_words import is_known, words_in

_UNKNOWN = frozenset(["unknown", "unbekannt", "inconnu"])
_NONE = frozenset(["n", "0", "-", "na", "n/a", "false"])
_NO_AGENT = frozenset(["none", "nein", "nil", "kein", "keines", "placebo", "saline", "water"])
_NOT_IN_VEINS = frozenset(["oral", "po", "rectal", "barium"])


class Meaning(Enum):
    """What a word means that may stand for a contrast agent."""

    AGENT, UNCLEAR, ELSE = range(3)


@dataclass(frozen=True)
class AgentSaid:
    """What words say of a contrast agent.

    Attributes:
        given: words for one that was given.
        denied: words that deny it.
        hinted: words that may mean one, or something else.
    """

    given: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    hinted: tuple[str, ...] = ()

    @property
    def conflicts(self) -> bool:
        """Whether it is said and denied, or may mean one or something else."""
        return bool(self.given and self.denied) or bool(self.hinted and not self.given and not self.denied)

    @property
    def words(self) -> tuple[str, ...]:
        """All of them, in the order of `denied`, `given` and `hinted`."""
        return (*self.denied, *self.given, *self.hinted)


def agent_in(words: Sequence[str]) -> AgentSaid:
    """What the words of a name or a description say of a contrast agent.

    Example:
        >>> agent_in(["t1", "post", "gd"]).given, agent_in(["t1", "o", "km"]).denied, agent_in(["t1", "late"]).hinted
        (('post', 'gd'), ('without contrast',), ('late',))
    """
    given, denied, hinted = list[str](), list[str](), list[str]()
    for place, word in enumerate(words):
        if word in UNENHANCED and not _is_event(words[place + 1 :]):
            denied.append(word)
        if word in DENIALS and len(word) > 3 and place == len(words) - 1:  # "T1 w/o", "T1 ohne"
            denied.append("without contrast")
        if word in CONTRAST and (meaning := _meaning(words, place)) is not Meaning.ELSE:
            if _is_denied(words, place):
                denied.append("without contrast")
            else:
                (given if meaning is Meaning.AGENT else hinted).append(word)
        hinted += [word] if word in PHASES else []
    if _says_both(words):
        given, denied = given or ["with contrast"], denied or ["without contrast"]
    return AgentSaid(tuple(given), tuple(denied), tuple(hinted))


def agent_named(text: str) -> bool | None:
    """Whether a tag or the pair "ce-" of BIDS names an agent in the veins; None if it does not tell."""
    words = words_in(text)
    said = agent_in(words)
    if text.strip() in ("", "?") or {*words} & _UNKNOWN or said.conflicts:
        return None
    if {*words} & _NOT_IN_VEINS:
        return False
    if said.given or said.denied:
        return not said.denied
    return text.strip().lower() not in _NONE and not {*words} & (_NO_AGENT | NEGATION)


def _meaning(words: Sequence[str], place: int) -> Meaning:
    """What one of the words of `CONTRAST` means, by those beside it."""
    word, before, after = words[place], words[max(0, place - 1) : place], words[place + 1 :]
    if {*after[:1]} & _UNKNOWN:
        return Meaning.UNCLEAR
    if word in AGENTS:
        return Meaning.AGENT
    if word == POST:
        return _meaning_of_post(before, after)
    if {*before, *after[:1]} & QUALITIES:
        return Meaning.ELSE
    if word in ENHANCED and {*before} & CONTRASTS:
        return _meaning(words, place - 1)
    unknown = word in ENHANCED and bool(after) and not is_known(after[0])
    return (
        Meaning.UNCLEAR
        if unknown or (word in CONTRASTS and {*before} & (ENHANCED | {"multi", "dual"}))
        else Meaning.AGENT
    )


def _meaning_of_post(before: Sequence[str], after: Sequence[str]) -> Meaning:
    """What "post" means: after an agent, unless beside an event, a long time, a step of processing, an unknown word."""
    if _is_event(after):
        return Meaning.ELSE
    if {_unit(before), _unit(after)} & LONG_TIMES or {*after[:1]} & STEPS:
        return Meaning.UNCLEAR
    plain = not after or is_known(after[0]) or after[0] in SCANNED | QUALITIES | MINUTES | BETWEEN
    return Meaning.AGENT if plain or any(letter.isdigit() for letter in after[0]) else Meaning.UNCLEAR


def _unit(words: Sequence[str]) -> str:
    """What the words count, if they begin with a time: "6 months", "6m", "week3", "months"."""
    for word, next_ in zip(words[:1], (*words[1:2], ""), strict=False):
        if word.isdigit():
            return next_
        unit = word.strip("0123456789")
        return unit if unit != word or len(unit) > 2 else ""
    return ""


def _is_event(words: Sequence[str]) -> bool:
    """Whether the words begin with an event, such as surgery, before or after which a scan may be."""
    return bool(words) and (words[0] in EVENT_WORDS or words[0].startswith(EVENTS))


def _is_denied(words: Sequence[str], place: int) -> bool:
    """Whether a negation reaches a word, from before it or from behind it."""
    after = [word for word in words[place + 1 :] if word not in BETWEEN]
    if words[place] == POST:
        return bool({*words[max(0, place - 1) : place]} & DENIALS)
    if {*after[:1]} & DENIED_BEHIND or (len(after) == 1 and after[0] in DENIALS):
        return True
    for word in reversed(words[:place]):
        if word in NEGATION | SHORT_DENIALS:
            return True
        if word not in BETWEEN | CONTRAST:
            return False
    return False


def _says_both(words: Sequence[str]) -> bool:
    """Whether the words speak of scans with and without an agent, or before and after it."""
    pairs = [{*pair} for pair in pairwise(word for word in words if word not in AND)]
    return any(pair & one and pair & other for pair in pairs for one, other in ((WITH, DENIALS), (AFTER, BEFORE)))
