"""LoRA adapters of a segmentation pipeline: what is done to them gives what another way to get there gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contracts.model_contract import assert_same
from contracts.pipeline_contract import generator, seeded
from diffusers.training_utils import _collate_lora_metadata
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file
from small_segmentation import joint_unet, pictures, pipeline_of, small_unet
from torch import Tensor

from meddiffusers import ConditionalSegmentationPipeline, SegmentationUNet

TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2")
LAST = ("mask_unet.conv_out",)  # logits are affine in what an adapter adds here
NOISE = torch.randn(4, 1, 8, 8, generator=generator(5))


def adapted(seed: int = 1, targets: Sequence[str] = TARGETS, **config: Any) -> SegmentationUNet:
    """The small network with a random adapter, both matrices of which are full."""
    unet = small_unet()
    with seeded(seed):
        unet.add_adapter(LoraConfig(r=2, target_modules=list(targets), init_lora_weights=False, **config))
    return unet


def weights(unet: SegmentationUNet) -> dict[str, Tensor]:
    return {f"unet.{name}": tensor for name, tensor in get_peft_model_state_dict(unet).items()}


def pipeline() -> ConditionalSegmentationPipeline:
    """Frozen, as an adapter leaves it: torch's Linear takes another kernel where weights want a gradient."""
    return pipeline_of(small_unet().requires_grad_(False))


def probability(pipe: ConditionalSegmentationPipeline) -> np.ndarray:
    return pipe(pictures(), num_inference_steps=2, ensemble_size=2, generator=generator(0)).probability


@torch.no_grad()
def predicted(pipe: ConditionalSegmentationPipeline) -> Tensor:
    return pipe.unet(NOISE, 500, image=pictures()).logits


class TestSavingAndLoading:
    @pytest.mark.parametrize("alpha", [2, 6])
    def test_a_folder_holds_the_adapter(self, alpha: int, tmp_path: Path) -> None:
        unet, pipe = adapted(lora_alpha=alpha), pipeline()
        base, expected = probability(pipe), probability(pipeline_of(unet))
        layers, metadata = get_peft_model_state_dict(unet), _collate_lora_metadata({"unet": unet})
        ConditionalSegmentationPipeline.save_lora_weights(tmp_path, layers, **metadata)
        assert [path.name for path in tmp_path.iterdir()] == ["pytorch_lora_weights.safetensors"]
        pipe.load_lora_weights(tmp_path)
        np.testing.assert_array_equal(probability(pipe), expected)
        assert not np.allclose(expected, base, atol=1e-2)

    def test_without_metadata_alpha_is_the_rank(self, tmp_path: Path) -> None:
        pipe = pipeline()
        pipe.save_lora_weights(tmp_path, get_peft_model_state_dict(adapted(lora_alpha=2)))
        pipe.load_lora_weights(str(tmp_path))
        np.testing.assert_array_equal(probability(pipe), probability(pipeline_of(adapted(lora_alpha=2))))

    def test_a_state_dict_is_the_same(self) -> None:
        unet, pipe = adapted(lora_alpha=2), pipeline()
        pipe.load_lora_weights(weights(unet), adapter_name="site")
        assert pipe.get_active_adapters() == ["site"] and pipe.get_list_adapters() == {"unet": ["site"]}
        np.testing.assert_array_equal(probability(pipe), probability(pipeline_of(unet)))

    def test_both_networks_are_adapted(self) -> None:
        pipe = pipeline()
        features = pipe.encode_image(pictures())
        pipe.load_lora_weights(weights(adapted()))
        assert not torch.allclose(pipe.encode_image(pictures()), features, atol=1e-3)
        names = get_peft_model_state_dict(pipe.unet, adapter_name=pipe.get_active_adapters()[0])
        assert {name.split(".")[0] for name in names} == {"image_unet", "mask_unet"}

    def test_hotswap(self) -> None:
        pipe = pipeline()
        pipe.load_lora_weights(weights(adapted(1, lora_alpha=2)), adapter_name="site")
        pipe.load_lora_weights(weights(adapted(2, lora_alpha=2)), adapter_name="site", hotswap=True)
        expected = probability(pipeline_of(adapted(2, lora_alpha=2)))
        np.testing.assert_array_equal(probability(pipe), expected)


class TestScale:
    def test_zero_is_the_base(self) -> None:
        pipe = pipeline()
        base = probability(pipe)
        pipe.load_lora_weights(weights(adapted()), adapter_name="site")
        pipe.set_adapters("site", 0.0)
        np.testing.assert_array_equal(probability(pipe), base)

    def test_disabled_is_the_base(self) -> None:
        pipe = pipeline()
        base = probability(pipe)
        pipe.load_lora_weights(weights(adapted()))
        changed = probability(pipe)
        pipe.disable_lora()
        np.testing.assert_array_equal(probability(pipe), base)
        pipe.enable_lora()
        np.testing.assert_array_equal(probability(pipe), changed)

    @pytest.mark.parametrize("scale", [-1.0, 0.25, 0.5, 2.0])
    def test_the_effect_grows_with_it(self, scale: float) -> None:
        pipe = pipeline()
        base = predicted(pipe)
        pipe.load_lora_weights(weights(adapted(targets=LAST)), adapter_name="site")
        effect = predicted(pipe) - base
        assert effect.abs().mean() > 0.05
        pipe.set_adapters("site", scale)
        torch.testing.assert_close(predicted(pipe) - base, scale * effect, rtol=0, atol=1e-5)

    def test_adapters_add_up(self) -> None:
        pipe, effects = pipeline(), []
        base = predicted(pipe)
        for seed, name in enumerate(("one", "other")):
            pipe.load_lora_weights(weights(adapted(seed, LAST)), adapter_name=name)
            pipe.set_adapters(name)
            effects.append(predicted(pipe) - base)
        assert not torch.allclose(*effects, atol=0.1)
        pipe.set_adapters(["one", "other"], [0.7, -0.4])
        expected = base + 0.7 * effects[0] - 0.4 * effects[1]
        torch.testing.assert_close(predicted(pipe), expected, rtol=0, atol=1e-5)
        pipe.delete_adapters("one")
        pipe.set_adapters("other")
        torch.testing.assert_close(predicted(pipe), base + effects[1], rtol=0, atol=1e-5)


class TestFusing:
    @pytest.fixture
    def pipe(self) -> ConditionalSegmentationPipeline:
        pipe = pipeline()
        pipe.load_lora_weights(weights(adapted()))
        return pipe

    def test_unloading_restores_the_weights(self, pipe: ConditionalSegmentationPipeline) -> None:
        pipe.unload_lora_weights()
        assert_same(pipe.unet.state_dict(), small_unet().state_dict())
        np.testing.assert_array_equal(probability(pipe), probability(pipeline()))

    def test_fused_and_unloaded_it_gives_what_the_adapter_gave(
        self, pipe: ConditionalSegmentationPipeline, tmp_path: Path
    ) -> None:
        expected = probability(pipe)
        pipe.fuse_lora()
        assert pipe.num_fused_loras == 1
        np.testing.assert_allclose(probability(pipe), expected, atol=1e-5)
        pipe.unload_lora_weights()
        assert list(pipe.unet.state_dict()) == list(small_unet().state_dict())
        np.testing.assert_allclose(probability(pipe), expected, atol=1e-5)
        pipe.save_pretrained(tmp_path)
        loaded = ConditionalSegmentationPipeline.from_pretrained(tmp_path)
        np.testing.assert_allclose(probability(loaded), expected, atol=1e-5)

    def test_fused_at_a_scale(self, pipe: ConditionalSegmentationPipeline) -> None:
        pipe.set_adapters(pipe.get_active_adapters(), 0.5)
        expected = probability(pipe)
        pipe.set_adapters(pipe.get_active_adapters(), 1.0)
        pipe.fuse_lora(lora_scale=0.5)
        np.testing.assert_allclose(probability(pipe), expected, atol=1e-5)

    def test_unfusing_restores_the_adapter(self, pipe: ConditionalSegmentationPipeline) -> None:
        expected = probability(pipe)
        pipe.fuse_lora()
        pipe.unfuse_lora()
        assert pipe.num_fused_loras == 0
        np.testing.assert_allclose(probability(pipe), expected, atol=1e-5)
        pipe.unload_lora_weights()
        np.testing.assert_allclose(probability(pipe), probability(pipeline()), atol=1e-5)

    def test_a_live_adapter_is_not_saved_into_the_weights(
        self, pipe: ConditionalSegmentationPipeline, tmp_path: Path
    ) -> None:
        with pytest.raises(ValueError, match=r"has a LoRA adapter.* save_lora_weights, or .* fuse_lora\(\)"):
            pipe.save_pretrained(tmp_path)
        pipe.fuse_lora()
        with pytest.raises(ValueError, match=r"has a LoRA adapter"):
            pipe.save_pretrained(tmp_path)
        assert not list(tmp_path.iterdir())


class TestRefusals:
    OTHER = {f"unet.down_blocks.0.to_q.lora_{part}.weight": torch.zeros(4, 4) for part in "AB"}

    @pytest.mark.parametrize(
        ("state", "message"),
        [
            ({}, r"a state dict without keys 'unet\.….lora_A'; it begins with None"),
            ({"unet.conv_in.weight": torch.zeros(1)}, r"without keys .* it begins with unet\.conv_in\.weight"),
            (get_peft_model_state_dict(adapted()), r"without keys .* it begins with image_unet\.down_blocks"),
            (
                {**OTHER, "unet.down_blocks.0.to_q.lora_B.weight": torch.zeros(8, 2)},
                r"'down_blocks\.0\.to_q'\} not found",
            ),
            ({k: v.repeat(1, 2) for k, v in weights(adapted()).items() if "to_q" in k}, r"with layers of other sizes"),
        ],
    )
    def test_weights_of_something_else(self, state: dict[str, Tensor], message: str) -> None:
        pipe = pipeline()
        base = probability(pipe)
        with pytest.raises(ValueError, match=message):
            pipe.load_lora_weights(state)
        np.testing.assert_array_equal(probability(pipe), base)

    def test_a_file_without_adapters_of_the_unet(self, tmp_path: Path) -> None:
        save_file({"text_encoder.to_q.lora_A.weight": torch.zeros(2, 2)}, tmp_path / "pytorch_lora_weights.safetensors")
        with pytest.raises(ValueError, match=r"holds no adapter weights whose names begin with 'unet\.'"):
            pipeline().load_lora_weights(tmp_path)

    def test_a_unet_that_takes_none(self) -> None:
        pipe = pipeline_of(joint_unet().requires_grad_(False))
        with pytest.raises(TypeError, match=r"is a UNet2DModel, .*SegmentationUNet\.from_unet\(pipe\.unet"):
            pipe.load_lora_weights(weights(adapted()))
        own = pipeline_of(SegmentationUNet.from_unet(pipe.unet, mask_channels=1))
        base = probability(own)
        state = {name: tensor for name, tensor in weights(adapted()).items() if name.startswith("unet.mask_unet.down")}
        own.load_lora_weights(state)
        assert not np.allclose(probability(own), base, atol=1e-3)
