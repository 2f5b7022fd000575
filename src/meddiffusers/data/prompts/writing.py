"""Write prompts of slices: a sentence on subject and modality, and one on the regions with their volumes."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING

from meddiffusers.data.prompts.facts import SliceFacts
from meddiffusers.data.prompts.wording import (
    AGED,
    AGELESS,
    BASES,
    HEADERS,
    MODALITY_WORDS,
    OPENINGS,
    PLACES,
    REGION_FORMS,
    SEPARATORS,
    SEX_WORDS,
    VOXELS,
)
from meddiffusers.data.regions import REGIONS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def write_prompt(facts: SliceFacts, seed: int = 0, regions: int | Iterable[int] | None = None) -> str:
    """Write a prompt from facts.

    Args:
        facts: of the slice.
        seed: of the wording, and of the order of regions: by size, by name or random.
        regions: number of the largest regions, or ids of regions to mention; by default all.
    """
    if regions is not None:
        facts = facts.with_largest(regions) if isinstance(regions, int) else facts.with_regions(regions)
    rng = random.Random(seed)
    header = _header(facts, rng)
    opening, form, separator = (rng.choice(words) for words in (OPENINGS, REGION_FORMS, SEPARATORS))
    order, shuffled = rng.randrange(3), random.Random(rng.random())
    places = {label: shuffled.random() for label in REGIONS}  # the order is independent of which regions are mentioned
    if not facts.volumes:
        return header
    keys = (lambda label: -facts.volumes[label], REGIONS.__getitem__, places.__getitem__)
    named = [
        form.format(region=REGIONS[label], mm3=facts.volumes[label]) for label in sorted(facts.volumes, key=keys[order])
    ]
    return f"{header} {opening}{separator.join(named)}."


def write_prompt_within(
    facts: SliceFacts, tokenizer: PreTrainedTokenizerBase, max_tokens: int | None = None, seed: int = 0
) -> str:
    """Write a prompt that fits into a number of tokens.

    The smallest regions are left out until the prompt fits; a warning names them.

    Args:
        facts: of the slice.
        tokenizer: of transformers.
        max_tokens: by default the model's maximum length according to the tokenizer.
        seed: of the wording.

    Raises:
        ValueError: the first sentence alone does not fit, or the maximum length is unknown.
    """
    limit = tokenizer.model_max_length if max_tokens is None else max_tokens
    if limit > 1e6:
        raise ValueError(f"The tokenizer reports a maximum length of {limit:.0e} tokens. Give max_tokens.")

    def fits(count: int) -> bool:
        return len(tokenizer(write_prompt(facts, seed, count), verbose=False).input_ids) <= limit

    if fits(len(facts.volumes)):
        return write_prompt(facts, seed)
    if not fits(0):
        raise ValueError(f"max_tokens={limit} does not hold one sentence: {write_prompt(facts, seed, 0)!r}.")
    low, high = 0, len(facts.volumes)  # `low` regions fit, `high` do not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    kept = facts.with_largest(low)
    left_out = [REGIONS[label] for label in facts.volumes if label not in kept.volumes]
    warnings.warn(
        f"A prompt of all {len(facts.volumes)} regions has more than {limit} tokens; left out the smallest: "
        f"{', '.join(left_out)}.",
        stacklevel=2,
    )
    return write_prompt(kept, seed)


def sample_facts(facts: SliceFacts, seed: int = 0) -> SliceFacts:
    """Augment facts for training: keep all with probability ½, else a random number of the largest regions."""
    rng = random.Random(f"regions {seed}")  # independent of the wording
    return facts if rng.random() < 0.5 else facts.with_largest(rng.randint(0, len(facts.volumes)))


def _header(facts: SliceFacts, rng: random.Random) -> str:
    """First sentence. It uses the same number of random values whatever is known, so that the rest does not change."""
    modality, sex = rng.choice(MODALITY_WORDS[facts.modality]), rng.choice(SEX_WORDS[facts.sex])
    header, aged, place, voxel = (rng.choice(words) for words in (HEADERS, AGED, PLACES, VOXELS))
    who = (AGELESS[0] if facts.age is None else aged).format(sex=sex, age=facts.age, article=_article(facts.age))
    edges = " × ".join(f"{edge:g}" for edge in facts.voxel or ())
    return header.format(
        modality=modality,
        Modality=modality[0].upper() + modality[1:],
        plane=facts.plane,
        Plane=facts.plane.capitalize(),
        who=who,
        place=place.format(number=facts.number, base=BASES[facts.plane]) if facts.number else "",
        voxel=voxel.format(voxel=edges) if facts.voxel else "",
    )


def _article(age: int | None) -> str:
    return "an" if age in (8, 11, 18) or str(age).startswith("8") else "a"
