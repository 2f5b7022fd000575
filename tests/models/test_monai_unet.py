from __future__ import annotations

from typing import Any

import pytest
import torch
from contracts.model_contract import ModelContract
from contracts.published_contract import PublishedContract
from monai.networks.nets import DiffusionModelUNet
from torch import Tensor

from meddiffusers import MonaiUNet

NETWORK: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 2,
    "num_res_blocks": [1, 1],
    "channels": [4, 8],
    "attention_levels": [False, True],
    "norm_num_groups": 2,
    "num_head_channels": [0, 4],
}


class TestMonaiUNet(ModelContract, PublishedContract):
    model_class = MonaiUNet
    config = {**NETWORK, "spatial_dims": 3, "with_conditioning": True, "cross_attention_dim": 4}

    def inputs(self, batch_size: int) -> dict[str, Tensor]:
        tokens = torch.randn(batch_size, 2, 4)
        times = torch.arange(batch_size)
        return {"sample": torch.randn(batch_size, 3, 4, 6, 4), "timestep": times, "encoder_hidden_states": tokens}


class TestMonaiUNetOfImages(ModelContract, PublishedContract):
    model_class = MonaiUNet
    config = {**NETWORK, "spatial_dims": 2, "num_class_embeds": 3}

    def inputs(self, batch_size: int) -> dict[str, Tensor]:
        labels, times = torch.arange(batch_size) % 3, torch.arange(batch_size)
        return {"sample": torch.randn(batch_size, 3, 8, 8), "timestep": times, "class_labels": labels}


@pytest.mark.parametrize("kind", [TestMonaiUNet, TestMonaiUNetOfImages])
@torch.no_grad()
def test_it_is_monais_network(kind: Any) -> None:
    contract = kind()
    model, batch = contract.build(), contract.batch()
    peer = DiffusionModelUNet(**contract.config).eval()
    peer.load_state_dict(model.state_dict())
    context, labels = batch.get("encoder_hidden_states"), batch.get("class_labels")
    assert torch.equal(model(**batch).sample, peer(batch["sample"], batch["timestep"], context, labels))


@torch.no_grad()
def test_one_time_for_all_is_that_time_for_each() -> None:
    contract = TestMonaiUNetOfImages()
    model, batch = contract.build(), contract.batch()
    expected = model(**{**batch, "timestep": torch.full((3,), 7)}).sample
    for time in (7, 7.0, torch.tensor(7), torch.tensor([7])):
        assert torch.equal(model(**{**batch, "timestep": time}).sample, expected)
