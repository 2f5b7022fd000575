"""Numbers as tokens: the contracts, order kept in the code, and numbers read as the prompts' own reader reads them."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from contracts.model_contract import ModelContract
from contracts.published_contract import PublishedContract
from torch import Tensor

from meddiffusers import QuantityEncoder
from meddiffusers.data.prompts import SliceFacts, write_prompt
from meddiffusers.data.regions import REGIONS

NAMES = ["age", "slice", *dict.fromkeys(REGIONS.values())]


class TestQuantityEncoder(ModelContract, PublishedContract):
    model_class = QuantityEncoder
    config: dict[str, Any] = {"id2label": ["age", "left thalamus"], "cross_attention_dim": 8, "hidden_dim": 4}

    def inputs(self, batch_size: int) -> dict[str, Tensor]:
        values = torch.stack([10.0 + torch.arange(batch_size), 500.0 * (1 + torch.arange(batch_size))], dim=1)
        return {"values": values, "known": torch.ones(batch_size, 2, dtype=torch.bool)}


def test_unknown_quantities_are_zeros_whatever_their_value() -> None:
    model = QuantityEncoder(["age", "slice"], cross_attention_dim=4)
    known = torch.tensor([[True, False]])
    one, other = (model(torch.tensor([[40.0, x]]), known).tokens for x in (3.0, float("nan")))
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert not one[0, 1].any() and one[0, 0].any()


def test_what_prompts_say_is_read() -> None:
    model, rng = QuantityEncoder(NAMES, cross_attention_dim=4), random.Random(0)
    facts = [
        SliceFacts(
            "t1",
            rng.choice([None, "F", "M"]),
            rng.choice([None, rng.randrange(1, 100)]),
            number=rng.choice([None, rng.randrange(1, 200)]),
            voxel=(1, 1, 1.5),
            volumes={label: rng.randrange(1, 9000) for label in rng.sample(list(REGIONS), rng.randrange(30))},
        )
        for _ in range(300)
    ]
    values, known = model.read([write_prompt(each, seed) for seed, each in enumerate(facts)])
    for fact, value, said in zip(facts, values, known, strict=True):
        numbers = {"age": fact.age, "slice": fact.number} | {REGIONS[label]: mm3 for label, mm3 in fact.volumes.items()}
        expected = {name: number for name, number in numbers.items() if number is not None}
        assert {NAMES[q]: value[q].item() for q in said.nonzero().flatten().tolist()} == expected


def test_quantities_that_it_does_not_know_are_passed_over() -> None:
    model = QuantityEncoder(["left thalamus"], cross_attention_dim=4)
    values, known = model.read(["T1 of a man aged 63, left thalamus: 512.5 mm3, right thalamus: 9 mm³", "T2"])
    assert values.tolist() == [[512.5], [0]] and known.tolist() == [[True], [False]]
    values, known = QuantityEncoder(cross_attention_dim=4).read(["a 63-year-old man, slice 7"])
    assert values.tolist() == [[63, 7]] and known.all()


@pytest.mark.parametrize("name, least", [("age", 120), ("left thalamus", 100_000)])
def test_values_are_seen_on_a_logarithmic_scale(name: str, least: float) -> None:
    """Where the perceptron passes its first input on, tokens are that scale: 0 at 0, 1 at the largest."""
    model = QuantityEncoder([name], cross_attention_dim=1, hidden_dim=1)
    with torch.no_grad():
        model.embedding.weight.zero_()
        for layer in (model.perceptron[0], model.perceptron[2]):
            layer.weight.zero_()
            layer.bias.zero_()
            layer.weight[0, 0] = 1
        model.perceptron[1] = torch.nn.Identity()
        values = torch.tensor([[0.0], [(1 + least) ** 0.5 - 1], [least]])
        tokens = model(values, torch.ones(3, 1, dtype=torch.bool)).tokens
    torch.testing.assert_close(tokens.flatten(), torch.tensor([0.0, 0.5, 1.0]))
