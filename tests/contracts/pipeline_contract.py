"""Contract tests of every pipeline. A subclass builds a small one and gives the arguments of a call:

    class TestMyPipeline(PipelineContract, PublishedContract):
        def build(self) -> DiffusionPipeline:
            return MyPipeline(...)

        def arguments(self, batch_size: int) -> dict[str, Any]:
            return {"batch_size": batch_size}

`build` gives equal weights at every call (`seeded` helps). Add `DenoisingContract` where `__call__` has steps.
Offloading is tried with the CPU as execution device, which runs the same hooks as an accelerator.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import accelerate.hooks
import numpy as np
import pytest
import torch
from diffusers.hooks import apply_group_offloading
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import nn

CONVENTIONAL = {"generator", "output_type", "return_dict"}


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Seed the random numbers inside; the global generator outside is unchanged."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def modules(pipeline: DiffusionPipeline) -> dict[str, Any]:
    return {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}


def other_class(pipeline: DiffusionPipeline) -> DiffusionPipeline:
    """A pipeline of an unrelated class that has the same components."""

    class Stranger(DiffusionPipeline):
        _optional_components = pipeline._optional_components

        def __init__(self, **parts: Any) -> None:
            super().__init__()
            self.register_modules(**parts)

    Stranger.__init__.__signature__ = inspect.signature(type(pipeline).__init__)  # type: ignore[attr-defined]
    return Stranger(**pipeline.components)


class ComponentsContract:
    """Contract of any pipeline, whatever its call takes; `images` returns an array that depends on the components."""

    def build(self) -> Any:
        raise NotImplementedError

    def arguments(self, batch_size: int) -> dict[str, Any]:
        """Keyword arguments of a call for so many images, but for those every pipeline has."""
        raise NotImplementedError

    def images(self, pipeline: Any, batch_size: int = 2, **kwargs: Any) -> Any:
        """The first field of the output; an array (B, H, W, C) unless another `output_type` is requested."""
        kwargs = {"generator": generator(0), "output_type": "np", **kwargs}
        return pipeline(**{**self.arguments(batch_size), **kwargs})[0]

    def saved(self, folder: Path) -> Any:
        pipeline = self.build()
        pipeline.save_pretrained(folder)
        return pipeline

    # Saving, loading, components

    def test_save_and_load(self, tmp_path: Path) -> None:
        pipeline = self.saved(tmp_path)
        loaded = DiffusionPipeline.from_pretrained(tmp_path)
        assert type(loaded) is type(pipeline)
        assert all(not module.training for module in modules(loaded).values())
        np.testing.assert_array_equal(self.images(loaded), self.images(pipeline))

    def test_save_and_load_a_variant(self, tmp_path: Path) -> None:
        pipeline = self.build()
        pipeline.save_pretrained(tmp_path, variant="fp16")
        loaded = type(pipeline).from_pretrained(tmp_path, variant="fp16")
        np.testing.assert_array_equal(self.images(loaded), self.images(pipeline))

    def test_load_with_a_device_map(self, tmp_path: Path) -> None:
        pipeline = self.saved(tmp_path)
        loaded = type(pipeline).from_pretrained(tmp_path, device_map="cpu")
        np.testing.assert_array_equal(self.images(loaded), self.images(pipeline))

    def test_components_make_the_same_pipeline(self) -> None:
        pipeline = self.build()
        twin = type(pipeline)(**pipeline.components)
        assert modules(twin) == modules(pipeline) != {}
        np.testing.assert_array_equal(self.images(twin), self.images(pipeline))

    def test_components_may_be_given_at_load(self, tmp_path: Path) -> None:
        pipeline = self.saved(tmp_path)
        given = {name: part for name, part in pipeline.components.items() if part is not None}
        for name, part in given.items():
            loaded = type(pipeline).from_pretrained(tmp_path, **{name: part})
            assert loaded.components[name] is part

    def test_save_and_load_without_optional_components(self, tmp_path: Path) -> None:
        pipeline = self.build()
        bare = type(pipeline)(**pipeline.components | dict.fromkeys(pipeline._optional_components))
        bare.save_pretrained(tmp_path)
        loaded = type(pipeline).from_pretrained(tmp_path)
        assert [name for name in pipeline._optional_components if loaded.components[name] is not None] == []
        np.testing.assert_array_equal(self.images(loaded), self.images(bare))

    @pytest.mark.parametrize("source", [lambda pipeline: pipeline, other_class])
    def test_from_pipe_keeps_every_component(self, source: Callable[[Any], Any]) -> None:
        pipeline = self.build()
        again = type(pipeline).from_pipe(source(pipeline))
        assert type(again) is type(pipeline)
        for name, part in pipeline.components.items():
            assert again.components[name] is part, name

    # Precision and memory

    def test_half_precision(self, tmp_path: Path) -> None:
        pipeline = self.saved(tmp_path)
        expected = self.images(pipeline)
        loaded = type(pipeline).from_pretrained(tmp_path, dtype=torch.bfloat16)
        moved = pipeline.to(torch.bfloat16)
        for half in (loaded, moved):
            assert {module.dtype for module in modules(half).values()} == {torch.bfloat16}
            images = self.images(half)
            assert images.dtype == np.float32
            assert np.isfinite(images).all() and images.shape == expected.shape
        np.testing.assert_array_equal(self.images(loaded), self.images(moved))

    def test_load_with_a_dtype_for_each_component(self, tmp_path: Path) -> None:
        pipeline = self.saved(tmp_path)
        first, *others = modules(pipeline)
        loaded = type(pipeline).from_pretrained(tmp_path, dtype={first: torch.float16, "default": torch.float32})
        assert modules(loaded)[first].dtype == torch.float16
        assert {modules(loaded)[name].dtype for name in others} <= {torch.float32}

    def test_model_offload(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The hooks run in the declared order, and every model is sent away after the call."""
        pipeline = self.build()
        names = {id(module): name for name, module in modules(pipeline).items()}
        sequence = pipeline.model_cpu_offload_seq.split("->")
        assert set(names.values()) <= {*sequence, *pipeline._exclude_from_cpu_offload}
        expected, used = self.images(pipeline), []
        fetch = accelerate.hooks.CpuOffload.pre_forward

        def pre_forward(hook: Any, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            used.append(names[id(module)])
            return fetch(hook, module, *args, **kwargs)

        monkeypatch.setattr(accelerate.hooks.CpuOffload, "pre_forward", pre_forward)
        pipeline.enable_model_cpu_offload(device="cpu")
        hooks = pipeline._all_hooks
        np.testing.assert_array_equal(self.images(pipeline), expected)
        assert list(dict.fromkeys(used)) == [name for name in sequence if name in used] != []
        assert pipeline._all_hooks is not hooks, "maybe_free_model_hooks was not called"

    def test_group_offload(self, tmp_path: Path) -> None:
        pipeline = self.build()
        expected = self.images(pipeline)
        for name, module in modules(pipeline).items():
            apply_group_offloading(
                module, torch.device("cpu"), offload_type="leaf_level", offload_to_disk_path=str(tmp_path / name)
            )
            for parameter in module.parameters():
                parameter.data.fill_(torch.nan)  # whatever is not read back from disk shows
        np.testing.assert_array_equal(self.images(pipeline), expected)


class PipelineContract(ComponentsContract):
    """Contract of a pipeline that generates images."""

    def test_the_signature_is_conventional(self) -> None:
        signature = inspect.signature(self.build().__call__)
        assert set(signature.parameters) >= CONVENTIONAL
        assert signature.parameters["generator"].default is None
        assert signature.parameters["return_dict"].default is True

    def test_the_tuple_is_the_output(self) -> None:
        pipeline = self.build()
        call = {**self.arguments(1), "output_type": "np"}
        output = pipeline(**call, generator=generator(0))
        as_tuple = pipeline(**call, generator=generator(0), return_dict=False)
        assert isinstance(as_tuple, tuple) and len(as_tuple) == len(output.to_tuple())
        np.testing.assert_array_equal(as_tuple[0], output[0])

    def test_the_seed_decides(self) -> None:
        pipeline = self.build()
        images = self.images(pipeline, generator=generator(3))
        np.testing.assert_array_equal(self.images(pipeline, generator=generator(3)), images)
        assert not np.array_equal(self.images(pipeline, generator=generator(4)), images)

    def test_a_list_of_generators_is_one_call_each(self) -> None:
        pipeline = self.build()
        together = self.images(pipeline, 3, generator=[generator(seed) for seed in range(3)])
        alone = [self.images(pipeline, 1, generator=generator(seed)) for seed in range(3)]
        np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-4)
        assert not np.allclose(together[0], together[1], atol=1e-3)

    def test_the_wrong_number_of_generators_is_refused(self) -> None:
        with pytest.raises(ValueError, match="generators"):
            self.images(self.build(), 3, generator=[generator(0), generator(1)])

    def test_a_generator_spares_the_global_one(self) -> None:
        pipeline = self.build()
        before = torch.get_rng_state()
        self.images(pipeline)
        assert torch.equal(torch.get_rng_state(), before)

    def test_without_a_generator_the_global_one_serves(self) -> None:
        pipeline = self.build()
        with seeded(5):
            images = self.images(pipeline, generator=None)
        with seeded(5):
            np.testing.assert_array_equal(self.images(pipeline, generator=None), images)
        with seeded(6):
            assert not np.array_equal(self.images(pipeline, generator=None), images)

    def test_output_types_agree(self) -> None:
        pipeline = self.build()
        arrays = self.images(pipeline)
        tensors = self.images(pipeline, output_type="pt")
        pil_images = np.stack([np.asarray(image, np.float32) for image in self.images(pipeline, output_type="pil")])
        assert arrays.ndim == 4 and 0 <= arrays.min() < arrays.max() <= 1
        np.testing.assert_array_equal(tensors.movedim(1, -1).numpy(), arrays)
        np.testing.assert_allclose(pil_images.reshape(arrays.shape), 255 * arrays, atol=0.501)

    def test_no_gradients_are_kept(self) -> None:
        with torch.enable_grad():
            assert not self.images(self.build(), output_type="pt").requires_grad


class DenoisingContract:
    """Beside `PipelineContract`, for a `__call__` with `num_inference_steps` and the callback of diffusers."""

    build: Callable[[], Any]
    images: Callable[..., Any]

    def test_the_callback_sees_every_step(self) -> None:
        seen = []

        def note(pipeline: Any, step: int, timestep: torch.Tensor, tensors: dict[str, Any]) -> dict[str, Any]:
            seen.append((step, int(timestep), set(tensors)))
            return tensors

        pipeline = self.build()
        images = self.images(pipeline, num_inference_steps=3, callback_on_step_end=note)
        timesteps = pipeline.scheduler.timesteps.tolist()
        assert seen == [(step, int(timestep), {"latents"}) for step, timestep in enumerate(timesteps)]
        np.testing.assert_array_equal(self.images(pipeline, num_inference_steps=3), images)

    def test_what_the_callback_returns_is_used(self) -> None:
        def clear(pipeline: Any, step: int, timestep: torch.Tensor, tensors: dict[str, Any]) -> dict[str, Any]:
            return {"latents": torch.zeros_like(tensors["latents"])} if step == 1 else {}

        one, other = (
            self.images(self.build(), num_inference_steps=2, generator=generator(seed), callback_on_step_end=clear)
            for seed in (0, 1)
        )
        np.testing.assert_array_equal(one, other)

    def test_unknown_callback_tensors_are_refused(self) -> None:
        with pytest.raises(ValueError, match="callback_on_step_end_tensor_inputs"):
            self.images(self.build(), callback_on_step_end_tensor_inputs=["colour"])

    def test_interrupt(self) -> None:
        steps = []

        def stop(pipeline: Any, step: int, timestep: torch.Tensor, tensors: dict[str, Any]) -> dict[str, Any]:
            steps.append(step)
            pipeline._interrupt = True
            return tensors

        pipeline = self.build()
        interrupted = self.images(pipeline, num_inference_steps=3, callback_on_step_end=stop)
        assert steps == [0]
        assert not np.array_equal(self.images(pipeline, num_inference_steps=3), interrupted)

    def test_progress_bar(self, capsys: pytest.CaptureFixture[str]) -> None:
        pipeline = self.build()
        self.images(pipeline, num_inference_steps=3)
        assert "3/3" in capsys.readouterr().err
        pipeline.set_progress_bar_config(disable=True)
        self.images(pipeline, num_inference_steps=3)
        assert capsys.readouterr().err == ""
