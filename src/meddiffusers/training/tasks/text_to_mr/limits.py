"""Limits of the training prompts, which a pipeline keeps to warn of prompts that are unlike them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from meddiffusers.data.prompts import SliceFacts
from meddiffusers.data.prompts.wording import MODALITY_WORDS
from meddiffusers.data.regions import REGIONS
from meddiffusers.models.quantity_encoder import AGE, SLICE
from meddiffusers.pipelines.meddiffusers_prompt_limits_v1 import words_of

OLDEST = 90  # years: a published limit above it could identify a person
SHARED = {"weighted", "contrast", "enhanced", "post", "density"}  # parts of the names of modalities that tell little


def prompt_limits(targets: Iterable[SliceFacts], prompts: Iterable[str]) -> dict[str, Any]:
    """Limits in the form of a pipeline's `prompt_limits`, see `meddiffusers_prompt_limits_v1`.

    Args:
        targets: Facts of the training slices. Volumes count for both sides, since images are mirrored in training.
        prompts: Prompts of the training.
    """
    numbers: dict[str, list[float]] = {}
    modalities: set[str] = set()
    for facts in targets:
        modalities |= words_of(" ".join(MODALITY_WORDS[facts.modality])) - SHARED
        age = None if facts.age is None else min(facts.age, OLDEST)
        for name, number in ((AGE, age), (SLICE, facts.number)):
            if number is not None:
                numbers.setdefault(name, []).append(number)
        for volumes in (facts.volumes, facts.mirrored().volumes):
            for label, mm3 in volumes.items():
                numbers.setdefault(REGIONS[label], [0]).append(mm3)  # a region may be outside the slice
    return {
        "words": " ".join(sorted(set().union(*map(words_of, prompts)))),
        "modalities": " ".join(sorted(modalities)),
        "ranges": {name: [min(each), max(each)] for name, each in sorted(numbers.items())},
    }
