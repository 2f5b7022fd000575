"""An adapter published by itself: weights, card and metrics, which `load_lora_weights` takes from the Hub by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.hub_evidence import tree
from helpers.hub_fixtures import FACTS, REPORT
from helpers.hub_server import HubServer
from helpers.small_text_to_mr import small_text_to_mr
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from meddiffusers.evaluation.text_to_mr.run import generate_from_prompts
from meddiffusers.hub import RepositoryError, publish
from meddiffusers.hub.card import card_issues
from meddiffusers.hub.checks import ADAPTER
from meddiffusers.hub.publish import write_adapter

OF_A_BASE = replace(FACTS, repo_id="tester/mine", base_model="tester/base", pipeline_tag="text-to-image")
TEXTS = ["t1 weighted brain"]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """The file of an adapter that changes the generated images."""
    pipeline: Any = small_text_to_mr()
    torch.manual_seed(0)
    pipeline.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    pipeline.save_lora_weights(tmp_path / "trained", unet_lora_layers=get_peft_model_state_dict(pipeline.unet))
    return tmp_path / "trained" / ADAPTER


@pytest.mark.slow
def test_it_is_published_alone_and_loads_by_its_name(hub: HubServer, weights: Path, tmp_path: Path) -> None:
    folder = write_adapter(weights, REPORT, OF_A_BASE, tmp_path / "repository")
    names = {
        "README.md",
        "metrics.json",
        ADAPTER,
        *(f"figures/{number}.png" for number in range(len(REPORT.figures))),
    }
    assert set(tree(folder)) == names
    publish(folder, "tester/mine")
    pipeline: Any = small_text_to_mr()
    plain = generate_from_prompts(pipeline, TEXTS, num_inference_steps=2)
    pipeline.load_lora_weights("tester/mine")
    assert abs(generate_from_prompts(pipeline, TEXTS, num_inference_steps=2) - plain).max() > 1e-5


def test_its_card_names_the_base_and_loads_both(weights: Path, tmp_path: Path) -> None:
    folder = write_adapter(weights, REPORT, OF_A_BASE, tmp_path / "repository")
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card_issues(card, folder) == []
    assert "base_model: tester/base" in card and "- lora" in card
    called = card.partition("```python\n")[2].partition("```")[0]
    assert 'from_pretrained("tester/base")\npipe.load_lora_weights("tester/mine")\n' in called


def test_weights_that_are_none_of_an_adapter_are_refused(weights: Path, tmp_path: Path) -> None:
    save_file(load_file(weights) | {"unet.conv_in.weight": torch.zeros(1)}, tmp_path / "mixed.safetensors")
    with pytest.raises(RepositoryError, match=r"holds weights of no adapter"):
        write_adapter(tmp_path / "mixed.safetensors", REPORT, OF_A_BASE, tmp_path / "repository")
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(RepositoryError, match="damaged or cut short"):
        write_adapter(weights, REPORT, OF_A_BASE, tmp_path / "repository")
    assert not (tmp_path / "repository").exists()
