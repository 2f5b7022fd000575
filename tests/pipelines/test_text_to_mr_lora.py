"""LoRA adapters of text-to-MR, for the unet alone and for the text encoder too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contracts.lora_contract import LoraContract
from contracts.pipeline_contract import generator, seeded
from diffusers.training_utils import _collate_lora_metadata
from helpers.small_text_to_mr import WIDTH, small_text_to_mr
from peft import LoraConfig, get_peft_model_state_dict
from torch import Tensor

from meddiffusers import TextToMRPipeline

NOISE, TOKENS = torch.randn(4, 2, 8, 8, generator=generator(5)), torch.randn(4, 6, WIDTH, generator=generator(6))


@pytest.mark.slow
class TestTextToMRLora(LoraContract):
    last = "conv_out"

    def build(self) -> Any:
        return small_text_to_mr()

    def sampled(self, pipeline: Any) -> np.ndarray:
        pipeline.set_progress_bar_config(disable=True)
        return pipeline("t1 brain", num_inference_steps=2, generator=generator(0), output_type="np").images

    @torch.no_grad()
    def predict(self, pipeline: Any) -> Tensor:
        return pipeline.unet(NOISE, 500, encoder_hidden_states=TOKENS).sample

    def test_a_unet_that_takes_none(self) -> None:
        """There is no such: those of diffusers that attend to tokens take adapters."""
        assert hasattr(small_text_to_mr().unet, "load_lora_adapter")


class TestTextEncodersToo:
    @pytest.fixture
    def base(self) -> TextToMRPipeline:
        return frozen()

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        source = adapted()
        TextToMRPipeline.save_lora_weights(
            tmp_path,
            get_peft_model_state_dict(source.unet),
            text_encoder_lora_layers=get_peft_model_state_dict(source.text_encoder),
            **_collate_lora_metadata({"unet": source.unet, "text_encoder": source.text_encoder}),
        )
        return tmp_path

    def test_a_folder_holds_both_parts(self, base: TextToMRPipeline, folder: Path) -> None:
        expected, before = embeds(adapted()), embeds(base)
        assert not torch.allclose(expected, before, atol=0.05)
        base.load_lora_weights(folder, adapter_name="site")
        assert base.get_list_adapters() == {"unet": ["site"], "text_encoder": ["site"]}
        torch.testing.assert_close(embeds(base), expected)

    @pytest.mark.slow
    def test_a_state_dict_is_the_same(self, base: TextToMRPipeline) -> None:
        base.load_lora_weights(state(adapted(alpha=2)))
        torch.testing.assert_close(embeds(base), embeds(adapted(alpha=2)))

    def test_scale_disabling_and_unloading_reach_it(self, base: TextToMRPipeline, folder: Path) -> None:
        before = embeds(base)
        base.load_lora_weights(folder, adapter_name="site")
        changed = embeds(base)
        for off, on in (
            (lambda: base.set_adapters("site", 0.0), lambda: base.set_adapters("site", 1.0)),
            (base.disable_lora, base.enable_lora),
        ):
            off()
            torch.testing.assert_close(embeds(base), before)
            on()
            torch.testing.assert_close(embeds(base), changed)
        base.unload_lora_weights()
        torch.testing.assert_close(embeds(base), before, rtol=0, atol=0)

    @pytest.mark.slow
    def test_fused_and_unloaded_it_gives_what_the_adapter_gave(
        self, base: TextToMRPipeline, folder: Path, tmp_path: Path
    ) -> None:
        base.load_lora_weights(folder)
        expected = embeds(base)
        with pytest.raises(ValueError, match="has a LoRA adapter"):
            base.save_pretrained(tmp_path / "saved")
        base.fuse_lora()
        base.unload_lora_weights()
        base.save_pretrained(tmp_path / "saved")
        torch.testing.assert_close(embeds(TextToMRPipeline.from_pretrained(tmp_path / "saved")), expected)

    def test_a_part_that_does_not_fit_leaves_nothing(self, base: TextToMRPipeline) -> None:
        before, weights = embeds(base), state(adapted())
        other = {name.replace("encoder.layer.1", "encoder.layer.9"): tensor for name, tensor in weights.items()}
        with pytest.raises(
            ValueError, match=r"part for the text encoder does not fit: it has no layer encoder\.layer\.9"
        ):
            base.load_lora_weights(other)
        with pytest.raises(ValueError, match="cannot be swapped"):
            base.load_lora_weights(weights, hotswap=True)
        assert not any(base.get_list_adapters().values())
        torch.testing.assert_close(embeds(base), before, rtol=0, atol=0)


def frozen() -> TextToMRPipeline:
    pipeline = small_text_to_mr()
    for part in (pipeline.unet, pipeline.text_encoder):
        part.requires_grad_(False)
    return pipeline


def adapted(alpha: int = 6) -> TextToMRPipeline:
    """With a random adapter of both parts."""
    pipeline = frozen()
    with seeded(1):
        for part, targets in ((pipeline.unet, ["to_q", "to_v"]), (pipeline.text_encoder, ["query", "value"])):
            part.add_adapter(LoraConfig(r=2, lora_alpha=alpha, target_modules=targets, init_lora_weights=False))
    return pipeline


def state(pipeline: TextToMRPipeline) -> dict[str, Tensor]:
    parts = {"unet": pipeline.unet, "text_encoder": pipeline.text_encoder}
    return {
        f"{part}.{name}": t for part, model in parts.items() for name, t in get_peft_model_state_dict(model).items()
    }


@torch.no_grad()
def embeds(pipeline: TextToMRPipeline) -> Tensor:
    return pipeline.encode_prompt(["t2 weighted brain"])[0]
