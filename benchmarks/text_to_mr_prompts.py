"""Prompts of random subjects, written and parsed again, and the number per second."""

from __future__ import annotations

import random
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from meddiffusers.data.prompts import SliceFacts, read_prompt, write_prompt, write_prompt_within
from meddiffusers.data.regions import REGIONS
from meddiffusers.evaluation.results import Bar
from meddiffusers.hub.load import load

COUNT, TOKENIZED = 10_000, 1_000


def prompts(checkpoint: Path, seed: int) -> tuple[list[Bar], dict[str, Any]]:
    """The bars: exact round trips, speed on one core, no prompt too long without a warning."""
    rng = random.Random(seed)
    facts = [_random_facts(rng) for _ in range(COUNT)]
    torch.set_num_threads(1)
    began = time.perf_counter()
    texts = [write_prompt(each, seed=number) for number, each in enumerate(facts)]
    a_second = COUNT / (time.perf_counter() - began)
    exact = sum(read_prompt(text) == each for text, each in zip(texts, facts, strict=True))
    tokenizer = load(checkpoint).tokenizer
    limit, silent, shortened = tokenizer.model_max_length, 0, 0
    for number, each in enumerate(facts[:TOKENIZED]):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            text = write_prompt_within(each, tokenizer, seed=number)
        whole = len(tokenizer(texts[number], verbose=False).input_ids) <= limit
        shortened += not whole
        silent += len(tokenizer(text, verbose=False).input_ids) > limit or whole == bool(said)
    bars = [
        Bar("prompts: written and read again, not the same", COUNT - exact, "<=", 0),
        Bar("prompts: written a second on one core", a_second, ">=", 5000),
        Bar("prompts: too long, or shortened without a warning", silent, "<=", 0),
    ]
    return bars, {"n": COUNT, "with the tokenizer": TOKENIZED, "of these shortened": shortened, "max tokens": limit}


def _random_facts(rng: random.Random) -> SliceFacts:
    return SliceFacts(
        rng.choice(["t1", "t1ce", "t2", "flair", "pd"]),
        rng.choice([None, "F", "M"]),
        rng.choice([None, rng.randrange(1, 100)]),
        plane=rng.choice(["axial", "coronal", "sagittal"]),
        number=rng.choice([None, rng.randrange(1, 200)]),
        voxel=rng.choice([None, (rng.randrange(500, 4000) / 1000, 1.0, 1.5)]),
        volumes={label: rng.randrange(1, 20_000) for label in rng.sample(list(REGIONS), rng.randrange(36))},
    )
