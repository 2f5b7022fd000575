from __future__ import annotations

from typing import Any

import pytest
import torch
from contracts.model_contract import ModelContract
from contracts.published_contract import PublishedContract
from torch import Tensor, nn

from meddiffusers import NoisyClassifier
from meddiffusers.models.noisy_classifier import PAPER, AttentionPool

SMALL: dict[str, Any] = {"in_channels": 2, "sample_size": 8, "block_out_channels": [4, 8], "norm_num_groups": 2}


class TestNoisyClassifier(ModelContract, PublishedContract):
    model_class = NoisyClassifier
    config = SMALL

    def inputs(self, batch_size: int) -> dict[str, Tensor]:
        return {"sample": torch.randn(batch_size, 2, 8, 8), "timestep": torch.arange(batch_size)}


class TestAttentionPooling(ModelContract, PublishedContract):
    model_class = NoisyClassifier
    config = {**SMALL, "attention_levels": [1], "attention_head_dim": 4, "pooling": "attention", "id2label": ["a", "b"]}

    def inputs(self, batch_size: int) -> dict[str, Tensor]:
        return {"sample": torch.randn(batch_size, 2, 8, 8), "timestep": torch.arange(batch_size)}


def test_the_network_of_the_paper_has_its_size() -> None:
    with torch.device("meta"):
        assert NoisyClassifier(**PAPER).num_parameters() == pytest.approx(5.5e6, rel=0.01)


def test_label_ids_by_name() -> None:
    model = NoisyClassifier(**SMALL, id2label={"1": "healthy", "0": "diseased"})
    assert model.id2label == {0: "diseased", 1: "healthy"}
    assert model.label_id("healthy") == 1
    with pytest.raises(ValueError, match="There is no label 'well'; expected one of diseased, healthy"):
        model.label_id("well")
    with pytest.raises(ValueError, match="id2label has the ids 1, 2; expected 0, 1 and so on"):
        NoisyClassifier(**SMALL, id2label={1: "healthy", 2: "diseased"})


@pytest.mark.parametrize("frozen", [True, False])
def test_the_gradient_is_that_of_the_log_probability(frozen: bool) -> None:
    """Against central differences along random directions."""
    torch.manual_seed(0)
    model = NoisyClassifier(**SMALL).double().eval().requires_grad_(not frozen)
    x, times = torch.randn(3, 2, 8, 8, dtype=torch.float64), torch.tensor([0, 400, 999])
    with torch.no_grad():
        gradient = model.gradient(x, times, 1)
    with torch.inference_mode():
        torch.testing.assert_close(model.gradient(x + 0, times + 0, 1), gradient)

    def log_probability(sample: Tensor) -> Tensor:
        return model(sample, times).logits.log_softmax(dim=1)[:, 1].detach()

    for _ in range(3):
        direction = torch.randn_like(x)
        slope = (log_probability(x + 1e-4 * direction) - log_probability(x - 1e-4 * direction)) / 2e-4
        torch.testing.assert_close((gradient * direction).flatten(1).sum(dim=1), slope, rtol=1e-4, atol=1e-8)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_time_matters() -> None:
    model = NoisyClassifier(**SMALL)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = torch.randn(2, 2, 8, 8)
    assert not torch.allclose(model(x, 10).logits, model(x, 800).logits, atol=1e-3)
    torch.testing.assert_close(model(x, torch.tensor([10, 800])).logits[1], model(x, 800).logits[1])


def test_attention_pooling_is_multi_head_attention_of_one_query() -> None:
    torch.manual_seed(0)
    pool, theirs = AttentionPool(3, 8, 4, 2), nn.MultiheadAttention(8, 2, batch_first=True)
    theirs.in_proj_weight, theirs.in_proj_bias = pool.to_qkv.weight, pool.to_qkv.bias
    nn.init.eye_(theirs.out_proj.weight)
    features = torch.randn(5, 8, 3, 3)
    tokens = features.flatten(2).mT
    tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1) + pool.positions.mT
    expected = pool.to_out(theirs(tokens[:, :1], tokens, tokens)[0][:, 0])
    torch.testing.assert_close(pool(features), expected)
