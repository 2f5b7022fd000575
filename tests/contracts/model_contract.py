"""What every model promises. A subclass names the class, a small configuration and inputs:

    class TestUNet(ModelContract, PublishedContract):
        model_class = UNet
        config = {"block_out_channels": (8, 8)}

        def inputs(self, batch_size: int) -> dict[str, torch.Tensor]:
            return {"sample": torch.randn(batch_size, 1, 16, 16), "timestep": torch.arange(batch_size)}

Random numbers in `build` and `inputs` come from a seeded generator. Parameters that start at zero are randomised:
behind a zero output layer every comparison would hold.
"""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any, ClassVar

import accelerate
import peft
import pytest
import torch
from accelerate.utils import convert_outputs_to_fp32
from diffusers.training_utils import EMAModel
from torch import nn

LORA_TARGETS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
CLOSE = {torch.float16: 0.01, torch.bfloat16: 0.05}  # of the largest output, after some ten roundings


def tensors(output: Any) -> list[torch.Tensor]:
    """The tensors of an output in order, those in tuples, dictionaries and distributions too."""
    if isinstance(output, torch.Tensor):
        return [output]
    if isinstance(output, dict):
        parts = list(output.values())
    elif isinstance(output, list | tuple):
        parts = list(output)
    else:
        parts = list(getattr(output, "__dict__", {}).values())
    return [tensor for part in parts for tensor in tensors(part)]


def assert_same(output: Any, expected: Any) -> None:
    """Equal to the last bit."""
    torch.testing.assert_close(tensors(output), tensors(expected), rtol=0, atol=0)


def assert_near(output: Any, expected: Any, dtype: torch.dtype) -> None:
    """Equal but for arithmetic or weights in `dtype`."""
    for tensor, reference in zip(tensors(output), tensors(expected), strict=True):
        deviation = (tensor.float() - reference).abs().max()
        assert deviation <= CLOSE[dtype] * reference.abs().max()


def takes_an_adapter(module: nn.Module) -> bool:
    """peft 0.21 merges an adapter of a 1×1×1 convolution wrongly."""
    pointwise = isinstance(module, nn.Conv3d) and set(module.kernel_size) == {1}
    return isinstance(module, LORA_TARGETS) and not pointwise


def differs(output: Any, other: Any) -> bool:
    return any(not torch.equal(a, b) for a, b in zip(tensors(output), tensors(other), strict=True))


class ModelContract:
    model_class: ClassVar[Any]  # a ModelMixin with ConfigMixin
    config: ClassVar[dict[str, Any]] = {}

    def inputs(self, batch_size: int) -> dict[str, torch.Tensor]:
        """Keyword arguments of `forward`; the first axis of each is the batch."""
        raise NotImplementedError

    def build(self) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = self.model_class(**self.config).eval()
            for parameter in model.parameters():
                if not parameter.any():
                    nn.init.normal_(parameter, std=0.1)
        return model

    def batch(self, batch_size: int = 3, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            batch = self.inputs(batch_size)
        return {name: x.to(dtype) if x.is_floating_point() else x for name, x in batch.items()}

    @torch.no_grad()
    def output(self, model: Any, dtype: torch.dtype = torch.float32) -> Any:
        return model(**self.batch(dtype=dtype))

    def gradients(self, model: Any) -> dict[str, torch.Tensor | None]:
        """Gradient of a loss that takes every number of the output into account."""
        model.zero_grad()
        sum(tensor.square().sum() for tensor in tensors(model(**self.batch()))).backward()  # type: ignore[union-attr]
        return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}

    # Saving and loading

    def test_save_and_load(self, tmp_path: Path) -> None:
        model = self.build()
        model.save_pretrained(tmp_path)
        loaded = self.model_class.from_pretrained(tmp_path)
        assert not loaded.training
        assert_same(loaded.state_dict(), model.state_dict())
        assert_same(self.output(loaded), self.output(model))

    def test_save_and_load_a_variant(self, tmp_path: Path) -> None:
        model = self.build()
        model.save_pretrained(tmp_path, variant="fp16")
        assert [path.name for path in tmp_path.glob("*.safetensors")] == ["diffusion_pytorch_model.fp16.safetensors"]
        assert_same(self.output(self.model_class.from_pretrained(tmp_path, variant="fp16")), self.output(model))

    def test_save_and_load_in_shards(self, tmp_path: Path) -> None:
        model = self.build()
        model.save_pretrained(tmp_path, max_shard_size=model.get_memory_footprint() // 2)
        assert len(list(tmp_path.glob("*.safetensors"))) > 1
        assert_same(self.output(self.model_class.from_pretrained(tmp_path)), self.output(model))

    def test_load_without_and_with_empty_weights_first(self, tmp_path: Path) -> None:
        model = self.build()
        model.save_pretrained(tmp_path)
        for low_cpu_mem_usage in (False, True):
            loaded = self.model_class.from_pretrained(tmp_path, low_cpu_mem_usage=low_cpu_mem_usage)
            assert_same(self.output(loaded), self.output(model))

    def test_built_on_the_meta_device_it_takes_weights(self) -> None:
        model = self.build()
        with accelerate.init_empty_weights(include_buffers=True):
            empty = self.model_class.from_config(model.config)
        assert {parameter.device.type for parameter in empty.parameters()} == {"meta"}
        empty.load_state_dict(model.state_dict(), assign=True)
        assert_same(self.output(empty.eval()), self.output(model))

    def test_moving_average_saves_and_loads(self, tmp_path: Path) -> None:
        model = self.build()
        average = EMAModel(model.parameters(), model_cls=self.model_class, model_config=model.config)
        for parameter in model.parameters():
            parameter.data.mul_(2)
        for _ in range(2):
            average.step(model.parameters())
        average.save_pretrained(tmp_path)
        loaded = EMAModel.from_pretrained(tmp_path, self.model_class)
        assert_same(loaded.shadow_params, average.shadow_params)
        assert loaded.optimization_step == 2

    # Configuration

    def test_from_config(self) -> None:
        model = self.build()
        again = self.model_class.from_config(model.config)
        for name in self.config:
            assert model.config[name] == self.config[name]
        assert {k: v for k, v in again.config.items() if k[0] != "_"} == {
            k: v for k, v in model.config.items() if k[0] != "_"
        }
        again.load_state_dict(model.state_dict())
        assert_same(self.output(again.eval()), self.output(model))

    def test_unknown_configuration_keys_are_warned_of(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logging.getLogger("diffusers"), "propagate", True)
        self.model_class.from_config({**self.config, "colour_of_the_scanner": "grey"})
        assert "{'colour_of_the_scanner': 'grey'} were passed" in caplog.text

    def test_two_models_share_nothing(self) -> None:
        one, other = self.build(), self.build()
        before = self.output(other)
        for tensor in one.state_dict().values():
            tensor.zero_()
        one.register_to_config(**dict.fromkeys(self.config))
        assert_same(self.output(other), before)
        assert all(other.config[name] == value for name, value in self.config.items())

    def test_a_deep_copy_is_a_model_of_its_own(self) -> None:
        model = self.build()
        twin = copy.deepcopy(model)
        before = self.output(model)
        assert_same(self.output(twin), before)
        assert type(twin) is type(model) and twin.config == model.config
        for parameter in twin.parameters():
            parameter.data.zero_()
        assert_same(self.output(model), before)

    def test_number_of_parameters(self) -> None:
        model = self.build()
        assert model.num_parameters() == sum(parameter.numel() for parameter in model.parameters()) > 0
        frozen = next(model.parameters()).requires_grad_(False)
        assert model.num_parameters(only_trainable=True) == model.num_parameters() - frozen.numel()

    # Outputs

    def test_dictionary_and_tuple_are_the_same_output(self) -> None:
        model = self.build()
        as_tuple = model(**self.batch(), return_dict=False)
        assert isinstance(as_tuple, tuple)
        assert_same(as_tuple, model(**self.batch()).to_tuple())

    def test_evaluation_is_deterministic(self) -> None:
        model = self.build()
        assert_same(self.output(model), self.output(model))

    def test_an_item_does_not_depend_on_its_batch(self) -> None:
        model, batch = self.build(), self.batch()
        together = tensors(model(**batch))
        for item in range(3):
            alone = tensors(model(**{name: x[item : item + 1] for name, x in batch.items()}))
            torch.testing.assert_close(alone, [x[item : item + 1] for x in together], rtol=1e-5, atol=1e-5)

    def test_the_output_depends_on_the_input(self) -> None:
        together = tensors(self.output(self.build()))
        assert differs([x[0] for x in together], [x[1] for x in together])

    # Precision and memory

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision(self, dtype: torch.dtype, tmp_path: Path) -> None:
        model = self.build()
        model.save_pretrained(tmp_path)
        loaded = self.model_class.from_pretrained(tmp_path, dtype=dtype)
        output = self.output(loaded, dtype)
        assert loaded.dtype == dtype
        assert {tensor.dtype for tensor in tensors(output)} == {dtype}
        assert_near(output, self.output(model), dtype)

    def test_accelerate_converts_the_output_of_mixed_precision(self) -> None:
        output = self.output(self.build())
        converted = convert_outputs_to_fp32(lambda: output)()
        assert type(converted) is type(output) and list(converted) == list(output)
        assert_same(converted, output)

    def test_layerwise_casting(self) -> None:
        model = self.build()
        expected = self.output(model)
        model.enable_layerwise_casting(storage_dtype=torch.bfloat16, compute_dtype=torch.float32)
        assert torch.bfloat16 in {parameter.dtype for parameter in model.parameters()}
        output = self.output(model)
        assert {tensor.dtype for tensor in tensors(output)} == {torch.float32}
        assert_near(output, expected, torch.bfloat16)

    @pytest.mark.parametrize("level", [{"offload_type": "leaf_level"}, {"num_blocks_per_group": 1}])
    def test_group_offload(self, level: dict[str, Any], tmp_path: Path) -> None:
        model = self.build()
        if not model._supports_group_offloading:
            with pytest.raises(ValueError, match="does not support group offloading"):
                model.enable_group_offload(torch.device("cpu"), **level)
            return
        expected = self.output(model)
        model.enable_group_offload(torch.device("cpu"), offload_to_disk_path=str(tmp_path), **level)
        for parameter in model.parameters():
            parameter.data.fill_(torch.nan)  # whatever is not read back from disk shows
        assert_same(self.output(model), expected)

    # Training

    def test_the_gradient_reaches_every_parameter(self) -> None:
        gradients = self.gradients(self.build())
        assert [name for name, gradient in gradients.items() if gradient is None or not gradient.any()] == []

    def test_gradient_checkpointing_keeps_its_word(self) -> None:
        model = self.build()
        if not model._supports_gradient_checkpointing:
            with pytest.raises(ValueError, match="does not support gradient checkpointing"):
                model.enable_gradient_checkpointing()
            return
        results = []
        for enable in (model.disable_gradient_checkpointing, model.enable_gradient_checkpointing):
            enable()
            gradients = self.gradients(model.train())
            results.append({name: gradient.clone() for name, gradient in gradients.items() if gradient is not None})
        assert model.is_gradient_checkpointing
        torch.testing.assert_close(results[1], results[0])

    def test_lora(self) -> None:
        model = self.build().requires_grad_(False)  # as an adapter leaves it: frozen weights may have another kernel
        expected = self.output(model)
        targets = [name for name, module in model.named_modules() if takes_an_adapter(module)]
        adapter = peft.LoraConfig(r=2, target_modules=targets, init_lora_weights=False)
        adapted = peft.get_peft_model(model, adapter)
        output = self.output(adapted)
        assert differs(output, expected)
        fused = copy.deepcopy(adapted).merge_and_unload()
        torch.testing.assert_close(tensors(self.output(fused)), tensors(output), rtol=1e-4, atol=1e-4)
        assert_same(self.output(adapted.unload()), expected)

    @pytest.mark.slow
    def test_compiles_to_one_graph(self) -> None:
        torch.compiler.reset()
        model = self.build()
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        output = compiled(**self.batch(), return_dict=False)
        torch.testing.assert_close(tensors(output), tensors(model(**self.batch())), rtol=1e-5, atol=1e-5)
