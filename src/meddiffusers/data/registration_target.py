"""The target of a registration in a name: "T2_to_T1", "t2_in_t1_space" and "rT2_coreg_T1" are T2-weighted images."""

from __future__ import annotations

from meddiffusers.data.modality_words import (
    MASK,
    OTHER,
    PLAIN,
    REGION,
    SPACE,
    SPACES,
    SYNTHETIC,
    TARGET,
    kind_of,
)


def without_target(words: list[str]) -> list[str]:
    """The words without the target of a registration; words behind it for labels or other images speak of the file."""
    for place, word in enumerate(words[1:-1], 1):
        before, after = words[:place], words[place + 1 :]
        moved = any(kind_of(each, PLAIN) or each in MASK for each in before)
        two = word == "2" and kind_of(words[place - 1], PLAIN) and (kind_of(after[0], PLAIN) or after[0] in SPACES)
        if moved and (word in TARGET or two):
            target = next((each for each in after if each not in TARGET), "")
            speaking = (MASK | REGION | OTHER | SYNTHETIC) - SPACES
            return [*before, *(each for each in after if each in speaking and each != target)]
    for place, word in enumerate(words[:-1]):
        if word in SPACES and words[place + 1] in SPACE:
            return words[:place] + words[place + 2 :]
    images = [place for place, word in enumerate(words) if kind_of(word, PLAIN)]
    for place in images[1:]:
        sequence = {kind_of(words[other], PLAIN) for other in images[:2]} == {"t2", "flair"}  # Siemens: t2_flair_space
        if words[place + 1 : place + 2] and words[place + 1] in SPACE and not sequence:
            return words[:place] + words[place + 2 :]
    return words
