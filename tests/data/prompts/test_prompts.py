"""Prompts: what is written is read again, to the mm³, whatever the words; too long ones lose their smallest regions."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meddiffusers.data.modalities import LABELS, MODALITIES
from meddiffusers.data.prompts import (
    SliceFacts,
    mirrored_prompt,
    read_prompt,
    sample_facts,
    slice_facts,
    write_prompt,
    write_prompt_within,
)
from meddiffusers.data.prompts.facts import PLANES
from meddiffusers.data.regions import REGIONS
from meddiffusers.data.scan import Scan

NAMED = [name for name in MODALITIES if name != LABELS]
FACTS = st.builds(
    SliceFacts,
    modality=st.sampled_from(NAMED),
    sex=st.sampled_from([None, "F", "M"]),
    age=st.none() | st.integers(0, 120),
    plane=st.sampled_from(PLANES),
    number=st.none() | st.integers(1, 512),
    voxel=st.none() | st.tuples(*[st.floats(0.1, 20)] * 3),
    volumes=st.dictionaries(st.sampled_from(list(REGIONS)), st.floats(0, 1e5)),
)


@settings(max_examples=300, deadline=None)
@given(FACTS, st.integers(0, 2**32))
@pytest.mark.slow
def test_what_is_written_is_read_again(facts: SliceFacts, seed: int) -> None:
    assert read_prompt(write_prompt(facts, seed)) == facts


@settings(max_examples=100, deadline=None)
@given(FACTS, st.integers(0, 2**32))
def test_flipped_words_are_those_of_the_flipped_slice(facts: SliceFacts, seed: int) -> None:
    assert read_prompt(mirrored_prompt(write_prompt(facts, seed))) == facts.mirrored()
    assert facts.mirrored().mirrored() == facts


def test_wording_follows_from_the_seed_and_varies() -> None:
    facts = SliceFacts("t1", "F", 63, number=70, voxel=(1, 1, 1), volumes={10: 700, 49: 720.4, 14: 90})
    assert write_prompt(facts, 5) == write_prompt(facts, 5)
    assert len({write_prompt(facts, seed) for seed in range(500)}) > 450


def test_regions_may_be_chosen() -> None:
    facts = SliceFacts("flair", volumes={10: 700, 48: 720, 14: 90, 16: 5000})
    assert read_prompt(write_prompt(facts, 1, regions=2)).volumes == {16: 5000, 49: 720}
    assert read_prompt(write_prompt(facts, 1, regions=[14, 48, 53])).volumes == {14: 90, 49: 720}


def test_varied_facts_name_all_regions_or_some_of_the_largest() -> None:
    facts = SliceFacts("t1", "F", 63, volumes={10: 700, 48: 720, 14: 90, 16: 5000})
    sampled = [sample_facts(facts, seed) for seed in range(400)]
    assert sampled == [sample_facts(facts, seed) for seed in range(400)]
    assert all(each == facts.with_largest(len(each.volumes)) for each in sampled)
    assert {len(each.volumes) for each in sampled} == {0, 1, 2, 3, 4}
    assert 0.5 < sum(each == facts for each in sampled) / len(sampled) < 0.7  # a half, and a fifth of the other
    assert len({write_prompt(each, seed).split()[0] for seed, each in enumerate(sampled) if each == facts}) > 1


@pytest.mark.parametrize(
    "text, facts",
    [
        ("T1 MRI of an 80 year old male", SliceFacts("t1", "M", 80)),
        (
            "axial T2-weighted brain scan, woman aged 34, Left Thalamus: 1200.4 mm3",
            SliceFacts("t2", "F", 34, volumes={10: 1200}),
        ),
        ("Coronal T1 after contrast, resolution 1x1x5 mm", SliceFacts("t1ce", plane="coronal", voxel=(1, 1, 5))),
    ],
)
def test_free_text_is_parsed(text: str, facts: SliceFacts) -> None:
    assert read_prompt(text) == facts


def test_facts_of_a_label_map() -> None:
    labels = np.zeros((8, 8, 6), np.int16)
    labels[1:5, 2:6, 2:5] = 10
    labels[5, 2:6, 3] = 49
    labels[6, 6, 3] = 200  # no prompt has a name for it
    found = slice_facts(Scan(labels, np.diag([2.0, 2.0, 3.0, 1.0]), LABELS), "t2", {"sex": "F", "age": 63.4})
    assert list(found) == [2, 3, 4]
    assert found[3] == SliceFacts("t2", "F", 63, "axial", 2, (2, 2, 3), {10: 192, 49: 48})


class Words:
    """A tokenizer of words, of which its model takes 60."""

    model_max_length = 60

    def __call__(self, text: str, verbose: bool = True) -> object:
        return type("Encoding", (), {"input_ids": text.split()})


def test_too_long_a_prompt_loses_its_smallest_regions_with_a_warning() -> None:
    facts = SliceFacts("t1", "M", 40, number=9, voxel=(1, 1, 1), volumes={label: 10 * label for label in REGIONS})
    with pytest.warns(UserWarning, match="more than 60 tokens; left out the smallest: white matter of left cerebral"):
        text = write_prompt_within(facts, Words(), seed=3)
    kept = read_prompt(text).volumes
    assert kept == facts.with_largest(len(kept)).volumes
    assert len(text.split()) <= 60 < len(write_prompt(facts, 3, len(kept) + 1).split())
    with pytest.raises(ValueError, match="max_tokens=5 does not hold one sentence"):
        write_prompt_within(facts, Words(), 5)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"modality": "t3"}, "modality='t3'; expected one of"),
        ({"sex": "f"}, "sex='f'; expected one of None, F, M"),
        ({"age": 130}, "age=130; expected years from 0 to 120"),
        ({"number": 0}, "slice numbers from 1"),
        ({"voxel": (1, 1, 0)}, "three edges from 0.001"),
        ({"volumes": {200: 1}}, "has no 200"),
        ({"volumes": {10: float("nan")}}, "0 or more"),
    ],
)
def test_facts_out_of_range_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SliceFacts(**{"modality": "t1", **wrong})


def test_a_text_without_a_modality_is_refused() -> None:
    with pytest.raises(ValueError, match="Found no modality in 'a brain'"):
        read_prompt("a brain")


@pytest.mark.slow
def test_many_random_prompts_are_read_again() -> None:
    rng = random.Random(0)
    for seed in range(2000):
        volumes = {label: rng.randrange(1, 9000) for label in rng.sample(list(REGIONS), rng.randrange(len(REGIONS)))}
        facts = SliceFacts(rng.choice(NAMED), rng.choice("FM"), rng.randrange(100), number=1, volumes=volumes)
        assert read_prompt(write_prompt(facts, seed)) == facts
