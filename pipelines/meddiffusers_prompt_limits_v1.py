"""What the training prompts of a model had in common, and what to say of a prompt that is unlike them.

A pipeline keeps the limits of its training in its configuration as `prompt_limits`:

| entry | |
|---|---|
| "words" | all words of the training prompts, separated by spaces |
| "modalities" | those words that name a modality; every training prompt has one |
| "ranges" | lowest and highest number of each quantity, such as {"age": [18, 90], "left thalamus": [0, 980]} |

| prompt | examples for a model of axial brain slices | |
|---|---|---|
| has other words and names no modality | "a cat", "left knee", "CT of the thorax" | ValueError |
| has other words beside a modality | "Coronal T1-weighted image" | UserWarning |
| names no modality | "", "brain of a woman" | UserWarning |
| has numbers out of their range | "aged 97", "slice 20" | UserWarning |
| names two modalities, sexes or planes | "T1-weighted, T2-weighted", "a man, a woman" | UserWarning |

A number that no quantity of this kind can have, such as "aged 630", and two numbers for one quantity are refused by the
quantity encoder. Negative prompts may lack a modality, or name several. With an adapter, which may have been trained on
other prompts, none is refused.
Published pipelines import this file from beside them.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

PUBLISHED_AS = "meddiffusers_prompt_limits_v1"  # also its file name here, so that imports find it in both places
WORD = re.compile(r"[^\W\d_]\w*")
TIMES = re.compile(r"(?<=\d) ?x ?(?=\d)")  # between the edges of a voxel
NEUTRAL = frozenset(
    WORD.findall("""
    a an and as at by for from in into is it its of on or that the this through to with show shows showing seen
    image images imaging magnetic mm mm3 mm³ mr mri patient person picture resonance scan section slice
""")
)  # words that say nothing which could be outside the training data of a model of MR slices
SHOWN = 8  # words in a message
FLAIR = re.compile(r"\bt2\W*(?:weighted\W*)?flair\b|\bflair\W*t2\b", re.I)  # which is weighted by T2
SYNONYMS = {"proton": "pd"}
CONTRARIES = {
    "sexes": ({"woman", "women", "female", "girl", "she", "her"}, {"man", "men", "male", "boy", "he", "his"}),
    "planes": ({"axial", "transverse", "transversal"}, {"coronal"}, {"sagittal"}),
}


def words_of(text: str) -> set[str]:
    """Words of a text in lower case, without numbers."""
    return set(WORD.findall(TIMES.sub(" ", text.lower())))


def check_limits(limits: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the limits; raise a ValueError if an entry is missing."""
    if limits is not None and not isinstance(limits, Mapping):
        raise ValueError(f"prompt_limits={limits!r}; expected words, modalities and ranges by name.")
    if limits is not None and (missing := {"words", "modalities", "ranges"} - set(limits)):
        raise ValueError(f"prompt_limits has no {', '.join(sorted(missing))}; expected words, modalities and ranges.")
    if limits is not None and not all(isinstance(limits[name], str) for name in ("words", "modalities")):
        raise ValueError("prompt_limits has words or modalities that are no text; expected words separated by spaces.")
    return None if limits is None else dict(limits)


def check_prompt(
    text: str,
    limits: Mapping[str, Any],
    quantities: Mapping[str, float],
    unread: Sequence[str],
    negative: bool = False,
    adapted: bool = False,
) -> None:
    """Warn of a prompt that is unlike those of the training, and refuse one that cannot be meant for the model.

    Args:
        text: The prompt.
        limits: `prompt_limits` of the pipeline.
        quantities: Numbers that were read from it, by the name of the quantity.
        unread: Numbers in it that no quantity was found for.
        negative: Whether it is a negative prompt.
        adapted: Whether the pipeline has an adapter.

    Raises:
        ValueError: It names no modality of the training data, and has words that no training prompt has.
    """
    modalities = set(limits["modalities"].split())
    words = words_of(text)
    unknown = sorted(words - NEUTRAL - modalities - set(limits["words"].split()))
    named = ", ".join(sorted(modalities))
    others = f"words that no training prompt has: {', '.join(unknown[:SHOWN])}{', …' if len(unknown) > SHOWN else ''}"
    unnamed = not negative and not words & modalities
    if unnamed and unknown and not adapted:
        raise ValueError(
            f"The prompt {_shortened(text)} names no modality of the training data ({named}), and has {others}. The "
            "model generates nothing but what it was trained on: see its card for prompts. If it was trained further "
            "on other prompts: pipe.register_to_config(prompt_limits=None)."
        )
    contradictions = {} if negative else _contradictions(text, modalities)
    notes = [f"has {others}; the image will not show what they mean"] if unknown else []
    if unnamed:
        notes.append(f"names no modality ({named}), so that of the image is random")
    for kind, names in contradictions.items():
        notes.append(f"contradicts itself: it names the {kind} {', '.join(names)}, and the image can have only one")
    for name, value in quantities.items():
        low, high = limits["ranges"].get(name, (value, value))
        if not low <= value <= high:
            notes.append(f"has {name} {value:g}, outside {low:g} to {high:g}, the range of the training data")
    if unread:
        notes.append(f"has numbers that are not understood: {', '.join(unread[:SHOWN])}")
    for note in notes:
        warnings.warn(f"The {'negative ' if negative else ''}prompt {_shortened(text)} {note}.", stacklevel=5)


def _contradictions(text: str, modalities: set[str]) -> dict[str, list[str]]:
    """Words of a text that exclude each other, by what they name."""
    words = words_of(FLAIR.sub("flair", text))
    named = {SYNONYMS.get(word, word) for word in words & modalities}
    found = {"modalities": sorted(named)} if len(named) > 1 else {}
    for kind, groups in CONTRARIES.items():
        if sum(bool(words & group) for group in groups) > 1:
            found[kind] = sorted(words & set().union(*groups))
    return found


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}…")
