"""Contract tests of pipelines whose unet takes LoRA adapters: different ways to apply an adapter give the same result.

    class TestMyAdapters(LoraContract):
        last = "conv_out"  # layer in whose weights `predict` is affine

        def build(self) -> Any:
            return MyPipeline(...)

        def build_plain(self) -> Any:
            return MyPipeline(UNet2DModel(...), ...)

        def sampled(self, pipeline: Any) -> np.ndarray: ...

        def predict(self, pipeline: Any) -> Tensor: ...

`build` returns a small pipeline with equal weights at every call, whose unet has attention; `build_plain` one with a
unet that takes no adapters. `sampled` is the result of a short call with a fixed generator, `predict` one network pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.training_utils import _collate_lora_metadata
from helpers.lora_notations import NOTATIONS, kohya
from peft import LoraConfig, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file
from torch import Tensor

from .model_contract import assert_same
from .pipeline_contract import seeded

TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2")


def weights(unet: Any) -> dict[str, Tensor]:
    """Weights of a unet's adapter, as the state dict of a pipeline."""
    return {f"unet.{name}": tensor for name, tensor in get_peft_model_state_dict(unet).items()}


class LoraContract:
    last: str
    # Fused weights W + BA round differently than W x + B (A x): by about 1e-6 in the output of a network pass,
    # depending on instruction set and BLAS. Sampling amplifies this; a subclass says so if by more than ten.
    rounding = 1e-5

    def build(self) -> Any:
        raise NotImplementedError

    def build_plain(self) -> Any:
        raise NotImplementedError

    def sampled(self, pipeline: Any) -> np.ndarray:
        raise NotImplementedError

    def predict(self, pipeline: Any) -> Tensor:
        raise NotImplementedError

    def frozen(self) -> Any:
        """The state that an adapter leaves: torch's Linear uses another kernel for weights that require a gradient."""
        pipeline = self.build()
        pipeline.unet.requires_grad_(False)
        return pipeline

    def adapted(self, seed: int = 1, targets: Sequence[str] = TARGETS, **config: Any) -> Any:
        """A pipeline with a random adapter, both matrices of which are nonzero."""
        pipeline = self.build()
        with seeded(seed):
            pipeline.unet.add_adapter(LoraConfig(r=2, target_modules=list(targets), init_lora_weights=False, **config))
        return pipeline

    @pytest.fixture
    def loaded(self) -> Any:
        """A pipeline with an adapter named "site"."""
        pipeline = self.frozen()
        pipeline.load_lora_weights(weights(self.adapted().unet), adapter_name="site")
        return pipeline

    # Saving and loading

    @pytest.mark.parametrize("alpha", [2, 6])
    def test_a_folder_holds_the_adapter(self, alpha: int, tmp_path: Path) -> None:
        source, pipeline = self.adapted(lora_alpha=alpha), self.frozen()
        base, expected = self.sampled(pipeline), self.sampled(source)
        layers, metadata = get_peft_model_state_dict(source.unet), _collate_lora_metadata({"unet": source.unet})
        type(pipeline).save_lora_weights(tmp_path, layers, **metadata)
        assert [path.name for path in tmp_path.iterdir()] == ["pytorch_lora_weights.safetensors"]
        pipeline.load_lora_weights(tmp_path)
        np.testing.assert_array_equal(self.sampled(pipeline), expected)
        assert not np.allclose(expected, base, atol=1e-2)

    @pytest.mark.parametrize("config", [{"lora_alpha": 2}, {"lora_alpha": 6}, {"lora_alpha": 3, "use_rslora": True}])
    def test_alpha_is_saved_by_default(self, config: dict[str, Any], tmp_path: Path) -> None:
        """Also where the weights are cast, and the rank differs between layers."""
        source, pipeline = self.adapted(rank_pattern={"to_q": 3}, alpha_pattern={"to_v": 5}, **config), self.frozen()
        layers = get_peft_model_state_dict(source.unet)
        type(pipeline).save_lora_weights(tmp_path, {name: weight.half() for name, weight in layers.items()})
        pipeline.load_lora_weights(str(tmp_path))
        np.testing.assert_allclose(self.sampled(pipeline), self.sampled(source), rtol=0, atol=2e-2)
        scales = [
            {name: layer.scaling[adapter] for name, layer in unet.named_modules() if isinstance(layer, LoraLayer)}
            for unet, adapter in ((source.unet, "default"), (pipeline.unet, "default_0"))
        ]
        assert scales[0] == scales[1] and len(set(scales[0].values())) > 1

    def test_an_unknown_alpha_is_warned_of(self, tmp_path: Path) -> None:
        layers = get_peft_model_state_dict(self.adapted(lora_alpha=2).unet)
        moved = {name: weight + 1 for name, weight in layers.items()}  # of no network in memory
        with pytest.warns(UserWarning, match="Alpha of the adapter of the unet is unknown, .* takes it as the rank"):
            type(self.build()).save_lora_weights(tmp_path, moved)
        pipeline, expected = self.frozen(), self.frozen()
        pipeline.load_lora_weights(tmp_path)
        expected.load_lora_weights({f"unet.{name}": weight for name, weight in moved.items()})
        np.testing.assert_array_equal(self.sampled(pipeline), self.sampled(expected))

    @pytest.mark.parametrize("notation", NOTATIONS)
    @pytest.mark.filterwarnings("ignore:.*has PEFT's names")
    def test_other_notations_are_read(self, notation: str) -> None:
        source, pipeline = self.adapted(lora_alpha=2), self.frozen()
        pipeline.load_lora_weights(NOTATIONS[notation](get_peft_model_state_dict(source.unet)))
        np.testing.assert_array_equal(self.sampled(pipeline), self.sampled(source))

    def test_alpha_of_kohya_and_peft_counts(self, tmp_path: Path) -> None:
        source = self.adapted(lora_alpha=6)
        expected, layers = self.sampled(source), get_peft_model_state_dict(source.unet)
        state = {f"base_model.model.{name}": weight for name, weight in layers.items()}
        save_file(state, tmp_path / "adapter_model.safetensors")
        source.unet.peft_config["default"].save_pretrained(tmp_path)
        for adapter in (tmp_path, kohya(layers, alpha=6)):
            pipeline = self.frozen()
            pipeline.load_lora_weights(adapter)
            np.testing.assert_array_equal(self.sampled(pipeline), expected)

    def test_a_state_dict_is_the_same(self, loaded: Any) -> None:
        assert loaded.get_active_adapters() == ["site"] and loaded.get_list_adapters() == {"unet": ["site"]}
        expected = self.frozen()
        expected.load_lora_weights(weights(self.adapted(lora_alpha=2).unet))
        np.testing.assert_array_equal(self.sampled(expected), self.sampled(self.adapted(lora_alpha=2)))

    def test_hotswap(self) -> None:
        pipeline = self.frozen()
        for seed in (1, 2):
            state = weights(self.adapted(seed, lora_alpha=2).unet)
            pipeline.load_lora_weights(state, adapter_name="site", hotswap=seed == 2)
        np.testing.assert_array_equal(self.sampled(pipeline), self.sampled(self.adapted(2, lora_alpha=2)))

    # Scale

    def test_scale_0_and_disabled_are_the_base(self, loaded: Any) -> None:
        base, changed = self.sampled(self.frozen()), self.sampled(loaded)
        loaded.set_adapters("site", 0.0)
        np.testing.assert_array_equal(self.sampled(loaded), base)
        loaded.set_adapters("site", 1.0)
        loaded.disable_lora()
        np.testing.assert_array_equal(self.sampled(loaded), base)
        loaded.enable_lora()
        np.testing.assert_array_equal(self.sampled(loaded), changed)

    @pytest.mark.parametrize("scale", [-1.0, 0.25, 0.5, 2.0])
    def test_the_effect_grows_with_the_scale(self, scale: float) -> None:
        pipeline = self.frozen()
        base = self.predict(pipeline)
        pipeline.load_lora_weights(weights(self.adapted(targets=[self.last]).unet), adapter_name="site")
        effect = self.predict(pipeline) - base
        assert effect.abs().mean() > 0.05
        pipeline.set_adapters("site", scale)
        torch.testing.assert_close(self.predict(pipeline) - base, scale * effect, rtol=0, atol=1e-5)

    def test_adapters_add_up(self) -> None:
        pipeline, effects = self.frozen(), []
        base = self.predict(pipeline)
        for seed, name in enumerate(("one", "other")):
            pipeline.load_lora_weights(weights(self.adapted(seed, [self.last]).unet), adapter_name=name)
            pipeline.set_adapters(name)
            effects.append(self.predict(pipeline) - base)
        assert not torch.allclose(*effects, atol=0.1)
        pipeline.set_adapters(["one", "other"], [0.7, -0.4])
        expected = base + 0.7 * effects[0] - 0.4 * effects[1]
        torch.testing.assert_close(self.predict(pipeline), expected, rtol=0, atol=1e-5)
        pipeline.delete_adapters("one")
        pipeline.set_adapters("other")
        torch.testing.assert_close(self.predict(pipeline), base + effects[1], rtol=0, atol=1e-5)

    # Fusing

    def test_unloading_restores_the_weights(self, loaded: Any) -> None:
        loaded.unload_lora_weights()
        assert_same(loaded.unet.state_dict(), self.frozen().unet.state_dict())
        np.testing.assert_array_equal(self.sampled(loaded), self.sampled(self.frozen()))

    def test_fused_and_unloaded_it_gives_what_the_adapter_gave(self, loaded: Any, tmp_path: Path) -> None:
        expected = self.sampled(loaded)
        loaded.fuse_lora()
        assert loaded.num_fused_loras == 1
        np.testing.assert_allclose(self.sampled(loaded), expected, rtol=0, atol=self.rounding)
        loaded.unload_lora_weights()
        assert list(loaded.unet.state_dict()) == list(self.frozen().unet.state_dict())
        loaded.save_pretrained(tmp_path)
        again = type(loaded).from_pretrained(tmp_path)
        np.testing.assert_allclose(self.sampled(again), expected, rtol=0, atol=self.rounding)

    def test_fused_at_a_scale(self, loaded: Any) -> None:
        loaded.set_adapters("site", 0.5)
        expected = self.sampled(loaded)
        loaded.set_adapters("site", 1.0)
        loaded.fuse_lora(lora_scale=0.5)
        np.testing.assert_allclose(self.sampled(loaded), expected, rtol=0, atol=self.rounding)

    def test_unfusing_restores_the_adapter(self, loaded: Any) -> None:
        expected = self.sampled(loaded)
        loaded.fuse_lora()
        loaded.unfuse_lora()
        assert loaded.num_fused_loras == 0
        np.testing.assert_allclose(self.sampled(loaded), expected, rtol=0, atol=self.rounding)
        loaded.unload_lora_weights()
        np.testing.assert_allclose(self.sampled(loaded), self.sampled(self.frozen()), rtol=0, atol=self.rounding)

    def test_a_live_adapter_is_not_saved_into_the_weights(self, loaded: Any, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"has a LoRA adapter.* save_lora_weights, or .* fuse_lora\(\)"):
            loaded.save_pretrained(tmp_path)
        loaded.fuse_lora()
        with pytest.raises(ValueError, match=r"has a LoRA adapter"):
            loaded.save_pretrained(tmp_path)
        assert not list(tmp_path.iterdir())

    # Refusals

    def test_damaged_adapters_leave_the_pipeline_as_it_was(self, tmp_path: Path) -> None:
        own = weights(self.adapted().unet)
        name = next(key for key in own if "lora_A" in key)
        nan, cut = own[name].clone(), tmp_path / "cut.safetensors"
        nan.view(-1)[0] = torch.nan
        save_file(own, cut)
        cut.write_bytes(cut.read_bytes()[:200])
        issues: list[tuple[Any, str]] = [
            (own | {name: nan}, r"1 of \d+ weights of the adapter's .*lora_A\.weight are NaN or infinite"),
            ({key: t for key, t in own.items() if key != name}, r"Half of the adapter is missing: .* without lora_A"),
            (
                {key: t for key, t in own.items() if "lora_A" in key},
                "Half of the adapter is missing: .* without lora_B",
            ),
            (tmp_path / "missing", r"There is no file or folder .*missing\. Expected a folder or \.safetensors"),
            (tmp_path / "a" / "b" / "c.safetensors", "There is no file or folder"),
            (cut, r"Found no adapter in .*cut\.safetensors"),
            (Path(__file__).parent, "Found no adapter in .*contracts"),
        ]
        pipeline = self.frozen()
        expected = self.sampled(pipeline)
        for source, message in issues:
            with pytest.raises(ValueError, match=message):
                pipeline.load_lora_weights(source)
            assert not any(pipeline.get_list_adapters().values())
        np.testing.assert_array_equal(self.sampled(pipeline), expected)
        with pytest.raises(ValueError, match="are NaN or infinite"):
            pipeline.save_lora_weights(
                tmp_path / "saved", {k.removeprefix("unet."): t for k, t in {**own, name: nan}.items()}
            )
        assert not (tmp_path / "saved").exists()

    def test_weights_of_something_else(self) -> None:
        other = {f"unet.nothing.to_q.lora_{part}.weight": torch.zeros(4, 4) for part in "AB"}
        own = weights(self.adapted().unet)
        issues: list[tuple[dict[str, Tensor], str]] = [
            ({}, r"a state dict without keys 'unet\.….lora_A'; it begins with None"),
            ({"unet.conv_in.weight": torch.zeros(1)}, r"without keys .* it begins with unet\.conv_in\.weight"),
            (
                own | {"unet.conv_in.weight": torch.zeros(1)},
                r"1 weights that are not of a LoRA adapter, .*conv_in\.weight",
            ),
            (other, r"part for the unet does not fit: it has no layer nothing\.to_q; its layers have names such as"),
            ({key.replace("unet.", "vae.", 1): part for key, part in own.items()}, "it has no layer vae"),
            ({name: part.repeat(1, 2) for name, part in own.items() if "to_q" in name}, r"with layers of other sizes"),
        ]
        pipeline = self.frozen()
        for state, message in issues:
            with pytest.raises(ValueError, match=message):
                pipeline.load_lora_weights(state)
        np.testing.assert_array_equal(self.sampled(pipeline), self.sampled(self.frozen()))

    def test_a_file_without_adapters_of_the_unet(self, tmp_path: Path) -> None:
        save_file({"text_encoder.to_q.lora_A.weight": torch.zeros(2, 2)}, tmp_path / "pytorch_lora_weights.safetensors")
        with pytest.raises(ValueError, match=r"part for the text encoder does not fit: \w+( \w+)? has no layer to_q"):
            self.frozen().load_lora_weights(tmp_path)

    def test_a_unet_that_takes_none(self) -> None:
        pipeline = self.build_plain()
        message = r"is a UNet2DModel, which takes no adapters; expected a \w+\. \w+UNet\w*\.from_unet\(pipe\.unet"
        with pytest.raises(TypeError, match=message):
            pipeline.load_lora_weights(weights(self.adapted().unet))
