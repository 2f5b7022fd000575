"""convert.guided_diffusion against outputs recorded with the reference code, and what it refuses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DModel
from helpers.guided_diffusion_reference import (
    DEFAULTS,
    INEXPRESSIBLE,
    NETWORKS,
    PAPER,
    SIZE,
    inputs,
    random_weights,
    recorded,
)
from helpers.recorded_outputs import TOLERANCE, relative_error, with_one_wrong_weight
from safetensors.torch import save_file

from meddiffusers.convert.guided_diffusion import convert_guided_diffusion, convert_unet, scheduler_for
from meddiffusers.convert.guided_diffusion_config import unet_config
from meddiffusers.convert.weights import load_checkpoint

SHAPES, OUTPUTS = recorded()


def flags(name: str) -> dict[str, Any]:
    """Arguments that the weights of a network do not determine."""
    network = NETWORKS[name]
    heads = {key: network[key] for key in ("num_heads", "num_head_channels") if key in network} or {"num_heads": 1}
    return {"image_size": SIZE, "qkv_order": "new" if "use_new_attention_order" in network else "legacy", **heads}


def error(unet: UNet2DModel, name: str) -> float:
    """Relative to the outputs of the reference."""
    given = inputs(DEFAULTS | NETWORKS[name])
    with torch.no_grad():
        outputs = unet(given["x"], given["timesteps"], class_labels=given.get("y")).sample
    return relative_error(outputs, OUTPUTS[name])


def hollow(name: str) -> dict[str, torch.Tensor]:
    """Weights that have only names and shapes."""
    return {key: torch.empty(shape, device="meta") for key, shape in SHAPES[name].items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_outputs_are_those_of_the_reference(name: str) -> None:
    unet = convert_unet(random_weights(SHAPES[name]), **flags(name))
    assert OUTPUTS[name].std() > 0.3
    assert error(unet, name) <= TOLERANCE


@pytest.mark.parametrize("name", ["segmentation", "anomaly", "legacy heads", "everything"])
@pytest.mark.slow
def test_one_wrong_weight_exceeds_the_tolerance(name: str) -> None:
    for kernel, weights in with_one_wrong_weight(random_weights(SHAPES[name]), every=4):
        assert error(convert_unet(weights, **flags(name)), name) > TOLERANCE, kernel


@pytest.mark.parametrize("name", ["legacy heads", "new heads", "everything"])
def test_several_heads_in_the_wrong_order_give_wrong_outputs(name: str) -> None:
    wrong = {"legacy": "new", "new": "legacy"}[flags(name)["qkv_order"]]
    assert error(convert_unet(random_weights(SHAPES[name]), **flags(name) | {"qkv_order": wrong}), name) > 0.1


def test_the_network_of_the_papers_has_all_its_weights() -> None:
    with torch.device("meta"):
        unet = convert_unet(hollow("paper"), image_size=224, num_heads=1)
    counts = {sum(math.prod(shape) for shape in SHAPES["paper"].values()), unet.num_parameters()}
    assert counts == {113_674_370}
    assert unet.config.block_out_channels == tuple(128 * multiplier for multiplier in PAPER["channel_mult"])
    assert [block.startswith("Attn") for block in unet.config.down_block_types] == [False] * 4 + [True, False]


@pytest.mark.parametrize(("name", "task", "variance"), [
    ("segmentation", "segmentation", "learned_range"),
    ("anomaly", "anomaly", "learned_range"),
    ("legacy heads", "anomaly", "fixed_large"),
])  # fmt: skip
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_gives_network_and_scheduler(name: str, task: Any, variance: str, suffix: str, tmp_path: Path) -> None:
    path, weights = tmp_path / f"weights{suffix}", random_weights(SHAPES[name])
    save_file(weights, path) if suffix == ".safetensors" else torch.save(weights, path)
    unet, scheduler = convert_guided_diffusion(path, task, **flags(name))
    assert error(unet, name) <= TOLERANCE
    assert scheduler.config.variance_type == variance
    unet.save_pretrained(tmp_path)
    assert error(UNet2DModel.from_pretrained(tmp_path), name) <= TOLERANCE


def test_half_precision_becomes_single() -> None:
    halves = {key: tensor.half() for key, tensor in random_weights(SHAPES["anomaly"]).items()}
    unet = convert_unet(halves, **flags("anomaly"))
    assert unet.dtype is torch.float32
    assert not unet.training
    assert 1e-5 < error(unet, "anomaly") < 1e-2


# --- The scheduler: one step in closed form (Nichol and Dhariwal 2021, eq. 10-15) ---


def closed_form(x: torch.Tensor, output: torch.Tensor, noise: torch.Tensor, t: int) -> torch.Tensor:
    """x_{t-1} in double precision; an output of twice the channels holds the variance's interpolation coefficients."""
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    bar = (1 - beta).cumprod(0)
    bar_t, bar_before = bar[t], bar[t - 1] if t else torch.tensor(1.0)
    epsilon, *learnt = output.double().split(x.shape[1], dim=1)
    x_0 = ((x - (1 - bar_t).sqrt() * epsilon) / bar_t.sqrt()).clamp(-1, 1)
    weight_0, weight_t = (
        bar_before.sqrt() * beta[t] / (1 - bar_t),
        (1 - beta[t]).sqrt() * (1 - bar_before) / (1 - bar_t),
    )
    mean = weight_0 * x_0 + weight_t * x
    if t == 0:
        return mean
    log_variance = beta[t].log()
    if learnt:
        v = (learnt[0] + 1) / 2
        log_variance = v * log_variance + (1 - v) * (beta[t] * (1 - bar_before) / (1 - bar_t)).log()
    return mean + (log_variance / 2).exp() * noise


@pytest.mark.parametrize("t", [999, 500, 1, 0])
@pytest.mark.parametrize(("task", "inputs_", "noisy", "outputs"), [
    ("segmentation", 5, 1, 2), ("segmentation", 5, 1, 1), ("anomaly", 4, 4, 8), ("anomaly", 4, 4, 4),
])  # fmt: skip
def test_a_step_is_that_of_guided_diffusion(t: int, task: Any, inputs_: int, noisy: int, outputs: int) -> None:
    scheduler = scheduler_for(task, {"in_channels": inputs_, "out_channels": outputs})
    torch.manual_seed(1)
    x, output = torch.randn(2, noisy, 8, 8), torch.randn(2, outputs, 8, 8)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    got = scheduler.step(output, t, x, generator=torch.Generator().manual_seed(0)).prev_sample
    torch.testing.assert_close(got.double(), closed_form(x, output, noise, t), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("task", "message"), [
    ("anomaly", "5 input and 2 output channels; expected 5 outputs, or 10 with a learnt variance, for anomaly"),
    ("painting", "got task 'painting'; expected one of segmentation, anomaly"),
])  # fmt: skip
def test_a_task_that_does_not_fit_is_refused(task: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scheduler_for(task, {"in_channels": 5, "out_channels": 2})


# --- What cannot be converted ---


@pytest.mark.parametrize(("name", "message"), [
    ("pooled", r"nothing is learnt between the levels \(conv_resample=False\)"),
    ("3D", "made for 3D data; expected 2D"),
    ("wide stem", "finest level has 64 channels and the time embedding starts from 32"),
    ("classifier", "no output_blocks, as the classifiers of guided-diffusion"),
])  # fmt: skip
def test_a_network_that_cannot_be_expressed_is_refused(name: str, message: str) -> None:
    assert name in {*INEXPRESSIBLE, "classifier"}
    with pytest.raises(ValueError, match=message):
        unet_config(hollow(name), image_size=SIZE, num_heads=1)


@pytest.mark.parametrize(("changed", "message"), [
    ({"num_heads": None}, "num_heads=None and num_head_channels=None; expected one of them"),
    ({"num_head_channels": 16}, "num_heads=1 and num_head_channels=16; expected one of them"),
    ({"num_heads": 2}, r"num_heads=2 for attention over \[64, 96\] channels; UNet2DModel has heads of one width"),
    ({"num_heads": 5}, r"num_heads=5 for attention over \[64, 96\] channels; expected a number that divides them"),
    ({"num_heads": 0}, "num_heads=0 for attention"),
    ({"num_heads": None, "num_head_channels": 64}, "num_head_channels=64 for attention"),
    ({"image_size": 18}, "image_size 18: expected a multiple of 4"),
    ({"qkv_order": "newest"}, "got qkv_order='newest'; expected one of legacy, new"),
])  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        convert_unet(hollow("everything"), **{"image_size": SIZE, "num_heads": 1} | changed)


FIRST, QUERY = "input_blocks.1.0.in_layers.0.bias", "middle_block.1.qkv.bias"


@pytest.mark.parametrize(("changed", "message"), [
    ({FIRST: None}, rf"missing: {FIRST}; left over: none"),
    ({"ema.rate": (1,)}, "missing: none; left over: ema.rate"),
    ({f"module.{n}": (1,) for n in range(9)}, r"left over: module.0, module.1, module.2, module.3 and 5 more"),
    ({FIRST: (7,)}, rf"{FIRST} \(7,\) instead of \(32,\)"),
    ({QUERY: (99,)}, rf"{QUERY} \(33,\) instead of \(64,\)"),
    ({"time_embed.0.weight": None}, "no guided-diffusion network: time_embed.0.weight is missing"),
    ({"output_blocks.9.0.bias": (1,)}, "got 4 input_blocks and 5 output_blocks for 2 levels"),
])  # fmt: skip
def test_weights_missing_left_over_or_misshapen_are_named(changed: dict[str, Any], message: str) -> None:
    shapes = {key: shape for key, shape in {**SHAPES["anomaly"], **changed}.items() if shape is not None}
    with pytest.raises(ValueError, match=message):
        convert_unet({key: torch.zeros(shape) for key, shape in shapes.items()}, **flags("anomaly"))


@pytest.mark.parametrize(("content", "message"), [
    ({"state": {}, "param_groups": []}, "whose entries state, param_groups are no tensors; .*not of the optimiser"),
    ({}, "an empty dictionary; expected a state dict"),
    (torch.zeros(1), "a Tensor; expected a state dict"),
    (Path("home"), "of another kind: its content cannot be decoded; expected a state dict"),  # a pickle that runs code
])  # fmt: skip
def test_a_file_that_holds_something_else_is_refused(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=f"other.pt: .*{message}"):
        load_checkpoint(tmp_path / "other.pt")


@pytest.mark.parametrize("name", ["damaged.pt", "damaged.safetensors"])
def test_a_damaged_or_absent_file_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{name}: no such file; expected a state dict"):
        load_checkpoint(tmp_path / name)
    (tmp_path / name).write_bytes(b"\x01 not weights")
    with pytest.raises(ValueError, match=f"{name}: damaged or of another kind"):
        load_checkpoint(tmp_path / name)
