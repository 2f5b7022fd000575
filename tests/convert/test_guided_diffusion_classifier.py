"""convert.guided_diffusion_classifier against outputs recorded with the reference code, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.guided_diffusion_reference import CLASSIFIERS, DEFAULTS, SIZE, inputs, random_weights, recorded
from helpers.recorded_outputs import TOLERANCE, relative_error, with_one_wrong_weight

from meddiffusers.convert.guided_diffusion_classifier import convert_classifier

SHAPES, OUTPUTS = recorded()
CONVERTIBLE = ["classifier of the papers kind", "classifier, new order"]


def flags(name: str) -> dict[str, Any]:
    network = DEFAULTS | CLASSIFIERS[name]
    order = "new" if network.get("use_new_attention_order") else "legacy"
    names = [f"class {i}" for i in range(network["out_channels"])]
    return {
        "image_size": SIZE,
        "num_head_channels": network["num_head_channels"],
        "qkv_order": order,
        "id2label": names,
    }


def error(name: str, weights: dict[str, torch.Tensor], **changes: Any) -> float:
    model = convert_classifier(weights, **flags(name) | changes)
    given = inputs(DEFAULTS | CLASSIFIERS[name])
    with torch.no_grad():
        return relative_error(model(given["x"], given["timesteps"]).logits, OUTPUTS[name])


@pytest.mark.parametrize("name", CONVERTIBLE)
def test_the_logits_are_those_of_the_reference(name: str) -> None:
    assert OUTPUTS[name].std() > 0.1
    assert error(name, random_weights(SHAPES[name])) <= TOLERANCE


@pytest.mark.parametrize("name", CONVERTIBLE)
def test_one_wrong_weight_exceeds_the_tolerance(name: str) -> None:
    for kernel, weights in with_one_wrong_weight(random_weights(SHAPES[name]), every=3):
        assert error(name, weights) > TOLERANCE, kernel


@pytest.mark.parametrize("name", CONVERTIBLE)
def test_heads_in_the_wrong_order_give_wrong_logits(name: str) -> None:
    wrong = {"legacy": "new", "new": "legacy"}[flags(name)["qkv_order"]]
    assert error(name, random_weights(SHAPES[name]), qkv_order=wrong) > 1e-3


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("classifier", {}, "no scale-shift norms, no residual resampling"),
        ("classifier, new order", {"image_size": 32}, "image_size=32 does not fit a pooling of 8×8 places"),
        ("classifier, new order", {"num_head_channels": 48}, r"num_head_channels=48 does not divide all of \[64\]"),
        ("classifier of the papers kind", {"num_head_channels": 64}, r"=64 does not divide all of \[32, 64\] channels"),
        ("classifier, new order", {"id2label": ["a", "b"]}, "got 2 names of labels for 3 classes"),
        ("classifier, new order", {"qkv_order": "old"}, "got qkv_order='old'; expected one of legacy, new"),
        ("segmentation", {}, "out.2.positional_embedding is missing"),
    ],
)
def test_what_it_cannot_convert_it_refuses(name: str, changed: dict[str, Any], message: str) -> None:
    known = flags(name) if name in CLASSIFIERS else {"image_size": SIZE}
    with pytest.raises(ValueError, match=message):
        convert_classifier(random_weights(SHAPES[name]), **known | changed)


def test_weights_that_are_missing() -> None:
    weights = random_weights(SHAPES["classifier, new order"])
    del weights["middle_block.1.norm.weight"]
    with pytest.raises(ValueError, match=r"weights missing: middle_block\.1\.norm\.weight"):
        convert_classifier(weights, **flags("classifier, new order"))
