from __future__ import annotations

from typing import Any

import pytest
import torch
from contracts.model_contract import ModelContract
from contracts.published_contract import PublishedContract
from diffusers import UNet2DModel
from peft import LoraConfig
from torch import Tensor

from meddiffusers import PatchUNet2DModel

NETWORK: dict[str, Any] = {
    "block_out_channels": [4, 8],
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "attention_head_dim": 4,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
}


class TestPatchUNet2DModel(ModelContract, PublishedContract):
    model_class = PatchUNet2DModel
    config = {"in_channels": 2, "patch_size": 2, "sample_size": 8, "network": NETWORK}

    def inputs(self, batch_size: int) -> dict[str, Tensor]:
        return {"sample": torch.randn(batch_size, 2, 8, 8), "timestep": torch.arange(batch_size)}


class TestWithLabels(ModelContract, PublishedContract):
    model_class = PatchUNet2DModel
    config = {"in_channels": 1, "out_channels": 2, "sample_size": 8, "network": NETWORK, "id2label": ["well", "ill"]}

    def inputs(self, batch_size: int) -> dict[str, Tensor]:
        noisy, labels = torch.randn(batch_size, 1, 8, 8), torch.arange(batch_size) % 3
        return {"sample": noisy, "timestep": torch.arange(batch_size), "class_labels": labels}


def build(**config: Any) -> PatchUNet2DModel:
    torch.manual_seed(0)
    return PatchUNet2DModel(**{"in_channels": 2, "sample_size": 8, "network": NETWORK, **config}).eval()


X, TIMES = torch.randn(3, 2, 8, 8), torch.tensor([0, 500, 999])


@torch.no_grad()
def test_without_patches_and_labels_it_is_the_unet() -> None:
    model = build()
    expected = model.unet(X, TIMES).sample
    assert torch.equal(model(X, TIMES).sample, expected)
    assert torch.equal(model(X, TIMES, return_dict=False)[0], expected)


@torch.no_grad()
def test_patches_are_channels() -> None:
    model = build(patch_size=2)
    model.unet.conv_out.weight.zero_()
    model.unet.conv_out.bias.copy_(torch.arange(8.0))
    expected = torch.tensor([[0.0, 1.0], [2.0, 3.0]]).repeat(4, 4)
    assert torch.equal(model(X, TIMES).sample, torch.stack([expected, expected + 4]).expand(3, -1, -1, -1))
    assert model.stride == 4


@torch.no_grad()
def test_missing_labels_are_unknown() -> None:
    model = build(id2label={"0": "well", "1": "ill"})
    assert model.id2label == {0: "well", 1: "ill"}
    unknown, well = (model(X, TIMES, torch.full((3,), label)).sample for label in (2, 0))
    assert torch.equal(model(X, TIMES).sample, unknown)
    assert not torch.allclose(well, unknown, atol=1e-4)


def test_adapters_fit_on_a_plain_unet() -> None:
    unet = UNet2DModel(**NETWORK, in_channels=2, out_channels=4, sample_size=8).eval()
    model = PatchUNet2DModel.from_unet(unet)
    assert not model.training
    assert torch.equal(model(X, TIMES).sample, unet(X, TIMES).sample)
    model.add_adapter(LoraConfig(r=2, target_modules=["to_q", "conv1"]))
    assert {name.split(".")[0] for name, weight in model.named_parameters() if weight.requires_grad} == {"unet"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"out_channels": 3}, "out_channels=3 for in_channels=2: expected 2, or 4 to learn the variance too"),
        ({"network": {"in_channels": 4}}, "network sets in_channels, which follow from"),
        ({"sample_size": 9, "patch_size": 2}, "sample_size=9 is not divisible by patch_size=2"),
    ],
)
def test_bad_configurations_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**config)
