"""Prompts that are unlike those of the training: refused, warned of, or passed without a word."""

from __future__ import annotations

import random
import warnings
from pathlib import Path
from typing import Any

import pytest
from contracts.pipeline_contract import generator
from helpers.small_text_to_mr import small_text_to_mr

from meddiffusers import QuantityEncoder, TextToMRPipeline
from meddiffusers.data.prompts import SliceFacts, write_prompt
from meddiffusers.data.regions import REGIONS
from meddiffusers.pipelines.meddiffusers_prompt_limits_v1 import check_prompt, words_of
from meddiffusers.training.tasks.text_to_mr.limits import prompt_limits

FACTS = [
    SliceFacts(modality, sex, age, number=number, voxel=(2.167, 2.167, 1.0), volumes={10: 300, 4: 900})
    for modality in ("t1", "t2", "flair")
    for sex, age, number in (("F", 18, 45), ("M", 97, 120), (None, None, None))
]
VIEWS = [view for facts in FACTS for view in (facts, facts.mirrored())]
LIMITS = prompt_limits(FACTS, [write_prompt(view, seed) for view in VIEWS for seed in range(40)])
SIDES = [f"{side} {region}" for side in ("left", "right") for region in ("thalamus", "lateral ventricle")]
ENCODER = QuantityEncoder(["age", "slice", *SIDES], cross_attention_dim=4, hidden_dim=4)


def check(text: str, negative: bool = False, adapted: bool = False) -> None:
    check_prompt(text, LIMITS, ENCODER.quantities(text), ENCODER.unread_numbers(text), negative, adapted)


def test_limits_are_those_of_the_training_prompts() -> None:
    assert LIMITS["modalities"] == "flair t1 t2"
    assert LIMITS["ranges"] == {
        "age": [18, 90],  # older ages are not published
        "left lateral ventricle": [0, 900],
        "left thalamus": [0, 300],
        "right lateral ventricle": [0, 900],
        "right thalamus": [0, 300],
        "slice": [45, 120],
    }
    assert {"axial", "woman", "man", "skull", "ventricle"} <= set(LIMITS["words"].split())
    assert not {"coronal", "ct", "knee"} & set(LIMITS["words"].split())


@pytest.mark.filterwarnings("error")
def test_prompts_of_the_same_grammar_pass_without_a_word() -> None:
    rng = random.Random(0)
    for seed in range(200):
        facts = SliceFacts(
            rng.choice(("t1", "t2", "flair")),
            rng.choice(("F", "M", None)),
            rng.choice((None, rng.randint(18, 90))),
            number=rng.choice((None, rng.randint(45, 120))),
            voxel=rng.choice((None, (2.167, 2.167, 1.0), (1.0, 1.0, 5.0))),
            volumes={label: rng.randint(1, 300) for label in rng.sample((4, 10, 43, 49), rng.randint(0, 4))},
        )
        check(write_prompt(facts, seed))
    check("Axial T1-weighted brain MRI of a 60-year-old patient")
    check("T2", negative=True)


@pytest.mark.filterwarnings("ignore:.*names no modality")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a cat", "cat"),
        ("left knee", "knee"),
        ("CT of the thorax", "ct, thorax"),
        ("Coronal T1ce image", "coronal, t1ce"),
    ],
)
def test_prompts_that_cannot_be_meant_are_refused(text: str, words: str) -> None:
    message = rf"{text}' names no modality of the training data \(flair, t1, t2\), and has words .*: {words}\. .*limits"
    with pytest.raises(ValueError, match=message):
        check(text)
    for kind in ("negative", "adapted"):
        with pytest.warns(UserWarning, match=f"has words that no training prompt has: {words}; the image will not"):
            check(text, **{kind: True})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "Coronal T1-weighted image of the brain",
            r"^The prompt 'Coronal .*' has words .*: coronal; the image will not",
        ),
        ("", "^The prompt '' names no modality"),
        ("Axial image of the brain of a woman", "names no modality .flair, t1, t2., so that of the image is random"),
        ("T1-weighted brain of a woman aged 97", "has age 97, outside 18 to 90, the range of the training data"),
        ("T1-weighted brain of a 7-year-old man", "has age 7, outside 18 to 90"),
        ("Axial T2-weighted slice 20", "has slice 20, outside 45 to 120"),
        ("FLAIR, left thalamus: 950.5 mm³", "has left thalamus 950.5, outside 0 to 300"),
        ("T1-weighted brain of a boy aged 45 months", "has numbers that are not understood: 45"),
        ("T1-weighted brain, aged 45,5", "has numbers that are not understood: 45,5"),
        ("T1-weighted, left thalamus: 7cm3", "has numbers that are not understood: 7cm3"),
        ("T1-weighted, 6,500 mm³ of left thalamus", "has numbers that are not understood: 6,500 mm³"),
        ("T1-weighted brain, aged 20-30", "has numbers that are not understood: -30"),
        ("T1-weighted brain, 63", "has numbers that are not understood: 63"),
    ],
)
def test_prompts_outside_the_training_data_are_warned_of(text: str, message: str) -> None:
    with pytest.warns(UserWarning, match=message):
        check(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("T1 of a woman aged 630", "Got age=630 in the prompt 'T1 of a woman aged 630'; expected 0 to 120 years"),
        ("T1, slice 9999", r"Got slice=9999 .*; expected 1 to 512\."),
        ("T1 of a woman aged -5", r"Got age=-5 in the prompt .*; expected 0 to 120 years"),
        ("T1 of a −5-year-old boy", r"Got age=-5 in the prompt"),
        ("T1 of a woman, age 1e3", r"Got age=1000 in the prompt"),
        ("T1, slice 0", r"Got slice=0 .*; expected 1 to 512\."),
        ("T1, slice -3", r"Got slice=-3 .*; expected 1 to 512\."),
        ("T1, left thalamus -300 mm3", r"Got left thalamus=-300 .*; expected 0 to 100000 mm³"),
        ("T1, left thalamus: 200000 mm³", "Got left thalamus=200000 .*; expected 0 to 100000 mm³"),
    ],
)
def test_impossible_numbers_are_refused_with_and_without_limits(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(text)
    with pytest.raises(ValueError, match=message):
        ENCODER.read(["T1", text])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("T1 of a woman aged 45, aged 80", "contradicts itself: it has age 45 and 80; expected one value"),
        ("T1 of a 20-year-old man, age 30", "contradicts itself: it has age 20 and 30"),
        ("T1, slice 60, slice number 70", "contradicts itself: it has slice 60 and 70"),
        ("T1, left thalamus: 300 mm³, 200 mm³ of left thalamus", "it has left thalamus 200 and 300; expected one"),
    ],
)
def test_two_numbers_for_one_quantity_are_refused(text: str, message: str) -> None:
    for read in (check, lambda each: ENCODER.read(["T1", each])):
        with pytest.raises(ValueError, match=message):
            read(text)


@pytest.mark.filterwarnings("error:.*contradicts")
@pytest.mark.filterwarnings("ignore:.*has words")
def test_prompts_that_do_not_contradict_themselves() -> None:
    for text, quantities in (
        ("T2-FLAIR of a man of 63 years, aged 63", {"age": 63}),
        ("Axial T2-weighted FLAIR of a man (age 60)", {"age": 60}),
        ("FLAIR T2 of a 20.5-year-old woman", {"age": 20.5}),
        ("T1 of a man aged 60 with a history of 5 years", {"age": 60}),
        ("T1, slice number 60 (2.167x2.167x1 mm), left thalamus 300mm3", {"slice": 60, "left thalamus": 300}),
    ):
        check(text)
        assert ENCODER.quantities(text) == quantities and ENCODER.unread_numbers(text) == []
    check("T1, T2, FLAIR, a man, a woman, axial or sagittal", negative=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("T1-weighted T2-weighted image", "contradicts itself: it names the modalities t1, t2, and the image can have"),
        ("FLAIR of the brain with T1 contrast", "it names the modalities flair, t1"),
        ("T1-weighted brain of a man and a woman", "it names the sexes man, woman"),
        ("T1-weighted brain of a woman, male patient", "it names the sexes male, woman"),
        ("Axial T1-weighted sagittal image", "it names the planes axial, sagittal"),
    ],
)
def test_prompts_that_contradict_themselves_are_warned_of(text: str, message: str) -> None:
    for adapted in (False, True):
        with pytest.warns(UserWarning, match=message):
            check(text, adapted=adapted)


class TestPipeline:
    @pytest.fixture
    def pipeline(self) -> TextToMRPipeline:
        return small_text_to_mr(positions=512, prompt_limits=LIMITS)

    def test_a_call_checks_its_prompts_before_any_work(self, pipeline: TextToMRPipeline) -> None:
        pipeline.text_encoder.forward = lambda *_, **__: pytest.fail("the network ran")
        for prompt in ("a cat", ["t1 brain", "left knee"]):
            with pytest.raises(ValueError, match="names no modality of the training data"):
                pipeline(prompt)

    @pytest.mark.filterwarnings("error")
    def test_what_is_like_the_training_gives_the_same_image_without_a_word(self, pipeline: TextToMRPipeline) -> None:
        call: dict[str, Any] = {"num_inference_steps": 1, "output_type": "pt"}
        expected = small_text_to_mr(positions=512)("t1 brain", generator=generator(0), **call).images
        assert (pipeline("t1 brain", generator=generator(0), **call).images == expected).all()
        with pytest.raises(UserWarning, match="The negative prompt 'ugly' has words"):
            pipeline("t1 brain", negative_prompt="ugly", **call)

    def test_limits_are_saved_and_can_be_lifted(self, pipeline: TextToMRPipeline, tmp_path: Path) -> None:
        pipeline.save_pretrained(tmp_path)
        loaded = TextToMRPipeline.from_pretrained(tmp_path)
        assert loaded.config["prompt_limits"] == LIMITS
        with pytest.raises(ValueError, match="names no modality"):
            loaded.encode_prompt("a cat")
        loaded.register_to_config(prompt_limits=None)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loaded.encode_prompt("a cat")


class TestShippedRepository:
    """Its limits are those of 4,000 slices of 2,000 phantoms, in three modalities."""

    FOLDER = Path(__file__).parents[2] / "examples" / "checkpoints" / "text-to-mr-brain"

    @pytest.fixture(scope="class")
    def pipeline(self) -> TextToMRPipeline:
        return TextToMRPipeline.from_pretrained(self.FOLDER, vae=None, unet=None, scheduler=None)

    @pytest.mark.filterwarnings("error:.*prompt")
    def test_prompts_of_its_writer_pass_without_a_word(self, pipeline: TextToMRPipeline) -> None:
        rng, ranges = random.Random(0), pipeline.config["prompt_limits"]["ranges"]
        labels = [label for label, name in REGIONS.items() if name in ranges and label != 48]  # 49 by another name
        for seed in range(100):
            facts = SliceFacts(
                rng.choice(("t1", "t2", "flair")),
                rng.choice(("F", "M")),
                rng.randint(18, 90),
                number=rng.randint(45, 120),
                voxel=(2.167, 2.167, 1.0),
                volumes={x: rng.randint(1, ranges[REGIONS[x]][1]) for x in rng.sample(labels, rng.randint(0, 20))},
            )
            pipeline._check_limits([write_prompt(facts, seed)], negative=False)
        pipeline.encode_prompt(["Axial T1-weighted brain MRI of a 60-year-old patient", "Axial T1-weighted image."])

    @pytest.mark.parametrize(
        "prompt",
        ["aged 630", "Coronal", "left knee", "slice 9999", "a cat", "CT of the thorax", "T1-weighted, aged 630"],
    )
    def test_prompts_that_cannot_be_meant_are_refused(self, pipeline: TextToMRPipeline, prompt: str) -> None:
        with pytest.raises(ValueError, match=r"names no modality of the training data|expected \d to"):
            pipeline.encode_prompt(prompt)

    @pytest.mark.parametrize("prompt", ["", "Coronal T1-weighted brain", "T1 of a knee", "T2 of a man aged 99"])
    def test_prompts_outside_the_training_data_are_warned_of(self, pipeline: TextToMRPipeline, prompt: str) -> None:
        with pytest.warns(UserWarning, match="^The prompt "):
            pipeline.encode_prompt(prompt)


def test_words_are_those_of_prompts() -> None:
    assert words_of("A T2-FLAIR image, 63-year-old's 500 mm³ (2.167 × 2.167 × 1 mm)") == {
        *("a", "t2", "flair", "image", "year", "old", "s", "mm³", "mm")
    }
    assert words_of(" ".join(REGIONS.values())) >= {"thalamus", "left", "right", "of"}
