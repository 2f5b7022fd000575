"""Sources of adapters that are refused with the reason, and the settings that decide about their effect."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.lora_notations import NOTATIONS, kohya
from helpers.small_text_to_mr import small_text_to_mr
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

from meddiffusers.pipelines.meddiffusers_lora_weights_v1 import read_adapter


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return small_text_to_mr()


@pytest.fixture(scope="module")
def layers() -> dict[str, Tensor]:
    torch.manual_seed(0)
    unet = small_text_to_mr().unet
    unet.add_adapter(LoraConfig(r=2, lora_alpha=6, target_modules=["to_q", "to_v"], init_lora_weights=False))
    return get_peft_model_state_dict(unet)


def read(pipeline: Any, source: Any, **options: Any) -> Any:
    return read_adapter(source, {"unet": pipeline.unet, "text_encoder": pipeline.text_encoder}, options)["unet"]


@pytest.mark.slow
def test_a_pickled_file_is_not_read(pipeline: Any, layers: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(layers, tmp_path / "adapter.bin")
    with pytest.raises(ValueError, match=r"adapter\.bin is pickled, which may run code .* Convert it to safetensors"):
        read(pipeline, tmp_path / "adapter.bin")


def test_no_adapter_at_all(pipeline: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"Got a NoneType\. Expected a folder or \.safetensors file"):
        read(pipeline, None)
    with pytest.raises(ValueError, match=r"Found no adapter in .*: Error no file named .*\. Expected a folder"):
        read(pipeline, tmp_path)
    with pytest.raises(ValueError, match=r"it begins with unet\.a\.lokr_w1\. Adapters of other kinds"):
        read(pipeline, {"unet.a.lokr_w1": torch.zeros(2, 2)})


def test_matrices_must_fit_each_other_and_the_layer(pipeline: Any, layers: dict[str, Tensor]) -> None:
    for change in (lambda t: t.T, lambda t: t[:1]):
        with pytest.raises(ValueError, match=r"layers of other sizes: unet\..*to_q has A \(\d, \d\) and B"):
            read(pipeline, {f"unet.{name}": change(t) if "lora_A" in name else t for name, t in layers.items()})
    lists = {f"unet.{name}": tensor.tolist() for name, tensor in layers.items()}
    with pytest.raises(ValueError, match=r"lora_A\.weight of the adapter is a list; expected a tensor"):
        read(pipeline, lists)


def test_alpha_is_that_of_the_source_else_the_rank(pipeline: Any, layers: dict[str, Tensor], tmp_path: Path) -> None:
    named = {f"unet.{name}": tensor for name, tensor in layers.items()}
    settings = {"unet.r": 2, "unet.lora_alpha": 5.0, "unet.target_modules": ["to_q", "to_v"]}
    alphas = [
        read(pipeline, source, **options).config["lora_alpha"]
        for source, options in (
            (named, {}),
            (named, {"metadata": settings}),
            (kohya(layers), {}),
            (kohya(layers, alpha=7), {}),
            (kohya(layers, alpha=0), {}),  # which kohya's scripts take as the rank
        )
    ]
    assert alphas == [2, 5, 2, 7, 2]
    save_file({f"base_model.model.{name}": t for name, t in layers.items()}, tmp_path / "adapter_model.safetensors")
    with pytest.warns(UserWarning, match=r"has PEFT's names without adapter_config\.json, so alpha is unknown"):
        assert read(pipeline, tmp_path).config["lora_alpha"] == 2
    LoraConfig(r=2, lora_alpha=9).save_pretrained(tmp_path)
    assert read(pipeline, tmp_path).config["lora_alpha"] == 9
    assert read(pipeline, tmp_path / "adapter_model.safetensors").config["lora_alpha"] == 9


@pytest.mark.parametrize("alpha", [float("nan"), float("inf"), "8"])
def test_an_alpha_that_is_no_number(pipeline: Any, layers: dict[str, Tensor], alpha: Any) -> None:
    named = {f"unet.{name}": tensor for name, tensor in layers.items()}
    with pytest.raises(ValueError, match=r"settings have lora_alpha=.*; expected a number"):
        read(pipeline, named, metadata={"unet.r": 2, "unet.lora_alpha": alpha})
    with pytest.raises(ValueError, match="settings have future_switch, which this version of peft lacks"):
        read(pipeline, named, metadata={"unet.r": 2, "unet.lora_alpha": 2, "unet.future_switch": True})


def test_ranks_and_alphas_may_differ_between_layers(pipeline: Any, layers: dict[str, Tensor]) -> None:
    state = kohya(layers, alpha=2)
    layer = next(name for name in state if name.endswith("to_v.alpha")).removesuffix(".alpha")
    state |= {f"{layer}.lora_down.weight": torch.ones(3, state[f"{layer}.lora_down.weight"].shape[1])}
    state |= {f"{layer}.lora_up.weight": torch.ones(len(state[f"{layer}.lora_up.weight"]), 3)}
    state |= {f"{layer}.alpha": torch.tensor(5.0)}
    config = read(pipeline, state).config
    assert (config["r"], config["lora_alpha"]) == (2, 2)
    assert list(config["rank_pattern"].values()) == [3] and list(config["alpha_pattern"].values()) == [5]
    pipeline.load_lora_weights(state, adapter_name="mixed")
    scales = {layer.scaling["mixed"] for layer in pipeline.unet.modules() if hasattr(layer, "lora_A")}
    pipeline.unload_lora_weights()
    assert scales == {1.0, 5 / 3}


def with_one_more(state: dict[str, Tensor], change: Any) -> dict[str, Tensor]:
    return state | {change(name): tensor for name, tensor in state.items()}


@pytest.mark.parametrize("notation", sorted(set(NOTATIONS) - {"kohya, alpha 0"}))
def test_alpha_that_no_notation_has_is_warned_of_and_can_be_given(
    pipeline: Any, layers: dict[str, Tensor], notation: str, tmp_path: Path
) -> None:
    """diffusers and kohya's scripts take it as the rank too, without a word."""
    state = NOTATIONS[notation](layers)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "adapter.safetensors")
    for source in (state, tmp_path / "adapter.safetensors"):
        with pytest.warns(
            UserWarning, match=r'alpha is unknown and taken as the rank\. .* metadata={"unet.lora_alpha"'
        ):
            assert read(pipeline, source).config["lora_alpha"] == 2
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            config = read(pipeline, source, metadata={"unet.lora_alpha": 6}).config
        assert (config["r"], config["lora_alpha"], config["alpha_pattern"]) == (2, 6, {})
        assert len(config["target_modules"]) == len(layers) // 2


@pytest.mark.filterwarnings("error")
def test_a_given_alpha_takes_the_place_of_that_of_a_file(
    pipeline: Any, layers: dict[str, Tensor], tmp_path: Path
) -> None:
    type(pipeline).save_lora_weights(tmp_path, layers, {"r": 2, "lora_alpha": 5, "use_rslora": True})
    assert read(pipeline, tmp_path).config["lora_alpha"] == 5
    config = read(pipeline, tmp_path, metadata={"unet.lora_alpha": 3}).config
    assert (config["lora_alpha"], config["use_rslora"]) == (3, True)
    assert read(pipeline, kohya(layers, alpha=7), metadata={"unet.lora_alpha": 3}).config["lora_alpha"] == 3


def test_alpha_of_some_layers_only_is_refused(pipeline: Any, layers: dict[str, Tensor]) -> None:
    state = kohya(layers, alpha=7)
    del state[min(name for name in state if name.endswith(".alpha"))]
    with pytest.raises(ValueError, match=rf"Alpha of 1 of the adapter's {len(layers) // 2} layers is missing, such as"):
        read(pipeline, state)
    assert read(pipeline, state, metadata={"unet.lora_alpha": 7}).config["lora_alpha"] == 7
    state |= {name: torch.ones(2) for name in state if name.endswith(".alpha")}
    with pytest.raises(ValueError, match=r"alpha of the adapter has the shape \(2,\); expected a number"):
        read(pipeline, state)


@pytest.mark.parametrize("metadata", [5, "alpha", {"lora_alpha": 6}, {5: 6}, {"vae.lora_alpha": 6}])
def test_settings_for_no_part(pipeline: Any, layers: dict[str, Tensor], metadata: Any) -> None:
    with pytest.raises(ValueError, match=r"metadata=.*; expected entries of LoraConfig .* which begin with unet\. or"):
        read(pipeline, kohya(layers, alpha=2), metadata=metadata)


def test_options_that_there_are_not(pipeline: Any, layers: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match=r"does not take lora_alpha; .* Alpha is given as metadata="):
        pipeline.load_lora_weights(kohya(layers, alpha=2), lora_alpha=6)


def test_two_adapters_in_one_source_are_refused(pipeline: Any, layers: dict[str, Tensor]) -> None:
    """Where the last of them would win."""
    named = NOTATIONS["PEFT, with the adapter's name"](layers)
    with pytest.raises(
        ValueError, match=r"has two lora_A\.weight, such as .*second\.weight; expected only one adapter"
    ):
        read(pipeline, with_one_more(named, lambda name: name.replace("default", "second")))
    with pytest.raises(ValueError, match=r"under two names, such as lora_unet_.*; expected one"):
        read(pipeline, {f"unet.{name}": tensor for name, tensor in layers.items()} | kohya(layers))
