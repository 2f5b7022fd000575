from __future__ import annotations

from typing import Any

import pytest
import torch
from contracts.model_contract import ModelContract
from contracts.published_contract import PublishedContract
from torch import Tensor

from meddiffusers import SliceAttributePredictor
from meddiffusers.models.slice_attribute_predictor import SCALARS

NETWORK = {
    "block_out_channels": [4, 8],
    "down_block_types": ["DownBlock2D"] * 2,
    "up_block_types": ["UpBlock2D"] * 2,
    "layers_per_block": 1,
    "norm_num_groups": 2,
}


class TestSliceAttributePredictor(ModelContract, PublishedContract):
    model_class = SliceAttributePredictor
    config: dict[str, Any] = {
        "label_ids": [0, 10, 49],
        "modalities": ["t1", "t2"],
        "sample_size": 8,
        "network": NETWORK,
    }

    def inputs(self, batch_size: int) -> dict[str, Tensor]:
        return {"sample": torch.rand(batch_size, 1, 8, 8)}


@pytest.mark.slow
def test_labels_are_of_pixels_and_the_rest_of_the_image() -> None:
    torch.manual_seed(0)
    reader = SliceAttributePredictor([0, 2, 41, 10], ["t1", "t2", "flair"], 16, network=NETWORK).eval()
    with torch.no_grad():
        found = reader(torch.rand(2, 1, 16, 24))
    assert found.logits.shape == (2, 4, 16, 24) and found.modality_logits.shape == (2, 3)
    assert found.scalars.shape == (2, len(SCALARS))


@pytest.mark.parametrize("ids", [[2, 41], [0], []])
def test_labels_begin_with_the_background(ids: list[int]) -> None:
    with pytest.raises(ValueError, match="expected 0 and more ids"):
        SliceAttributePredictor(ids, ["t1"], 8, network=NETWORK)
