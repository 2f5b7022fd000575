"""What users of diffusers expect of a call, beside `DenoisingContract`: mix in what the pipeline's call has.

    class TestMyPipeline(PipelineContract, DenoisingContract, StateContract, GuidanceContract, PublishedContract):
        ...

`images` is that of the pipeline contract; `output_type="latent"` gives the latents after the last step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from torch import Tensor


class StateContract:
    """A call shows its state to a callback, which changes it."""

    build: Callable[[], Any]
    images: Callable[..., Any]

    def test_the_number_of_timesteps_is_known(self) -> None:
        pipeline, seen = self.build(), []

        def note(pipeline: Any, step: int, timestep: Tensor, tensors: dict[str, Any]) -> dict[str, Any]:
            seen.append((step, pipeline.num_timesteps))
            return tensors

        self.images(pipeline, num_inference_steps=3, callback_on_step_end=note)
        assert seen == [(0, 3), (1, 3), (2, 3)] and pipeline.num_timesteps == 3

    def test_a_callback_receives_every_tensor_that_it_may_ask_for(self) -> None:
        pipeline, seen = self.build(), []

        def note(pipeline: Any, step: int, timestep: Tensor, tensors: dict[str, Any]) -> dict[str, Any]:
            seen.append(set(tensors))
            return {}

        names = pipeline._callback_tensor_inputs
        self.images(pipeline, callback_on_step_end=note, callback_on_step_end_tensor_inputs=names)
        assert "latents" in names and seen == [set(names)] * pipeline.num_timesteps

    def test_the_latents_of_the_last_step_are_the_result(self) -> None:
        def clear(pipeline: Any, step: int, timestep: Tensor, tensors: dict[str, Any]) -> dict[str, Any]:
            last = step == pipeline.num_timesteps - 1
            return {"latents": torch.zeros_like(tensors["latents"])} if last else tensors

        latents = self.images(self.build(), output_type="latent", callback_on_step_end=clear)
        assert isinstance(latents, Tensor) and latents.numel() and not latents.any()


class GuidanceContract:
    """The guidance scale of a call, whose `arguments` have one other than 1."""

    build: Callable[[], Any]
    images: Callable[..., Any]
    scale: float = 2.0  # with which a change of the scale shows in the images

    def test_a_callback_changes_the_scale_of_later_steps(self) -> None:
        def double(pipeline: Any, step: int, timestep: Tensor, tensors: dict[str, Any]) -> dict[str, Any]:
            pipeline._guidance_scale *= 2
            return tensors

        pipeline = self.build()
        constant = self.images(pipeline, num_inference_steps=2, guidance_scale=self.scale)
        assert pipeline.guidance_scale == self.scale and pipeline.do_classifier_free_guidance
        changed = self.images(pipeline, num_inference_steps=2, guidance_scale=self.scale, callback_on_step_end=double)
        assert pipeline.guidance_scale == 4 * self.scale
        assert not np.allclose(changed, constant, atol=1e-5)
        again = self.images(pipeline, num_inference_steps=2, guidance_scale=self.scale)
        np.testing.assert_array_equal(again, constant)

    def test_a_scale_of_1_is_no_guidance(self) -> None:
        pipeline = self.build()
        self.images(pipeline, guidance_scale=1.0)
        assert pipeline.guidance_scale == 1 and not pipeline.do_classifier_free_guidance


class ScheduleContract:
    """`eta`, `timesteps` and `sigmas`, as far as the scheduler takes them."""

    build: Callable[[], Any]
    images: Callable[..., Any]

    def with_scheduler(self, kind: Any) -> Any:
        pipeline = self.build()
        pipeline.scheduler = kind.from_config(pipeline.config["noise_schedule"])
        return pipeline

    def test_eta_adds_noise_where_the_scheduler_has_it(self) -> None:
        pipeline = self.with_scheduler(DDIMScheduler)
        plain = self.images(pipeline, num_inference_steps=4)
        np.testing.assert_array_equal(self.images(pipeline, num_inference_steps=4, eta=0.0), plain)
        assert not np.allclose(self.images(pipeline, num_inference_steps=4, eta=1.0), plain, atol=1e-5)
        with pytest.raises(ValueError, match=r"eta=0\.5, and the steps of the scheduler, a DPMSolver\w+, have no eta"):
            self.images(self.with_scheduler(DPMSolverMultistepScheduler), eta=0.5)

    def test_timesteps_take_the_place_of_a_number_of_steps(self) -> None:
        pipeline = self.with_scheduler(DPMSolverMultistepScheduler)
        expected = self.images(pipeline, num_inference_steps=4)
        timesteps = pipeline.scheduler.timesteps.tolist()
        np.testing.assert_array_equal(self.images(pipeline, timesteps=timesteps), expected)
        assert pipeline.num_timesteps == 4
        with pytest.raises(ValueError, match="Got timesteps, and the scheduler, a DDIMScheduler, chooses its own"):
            self.images(self.with_scheduler(DDIMScheduler), timesteps=timesteps)
        for wrong in ({"timesteps": timesteps[::-1]}, {"sigmas": []}):
            with pytest.raises(ValueError, match="expected falling numbers"):
                self.images(pipeline, **wrong)


class ImageListContract:
    """The call takes `image`: a batch, or a list of images."""

    build: Callable[[], Any]
    images: Callable[..., Any]
    arguments: Callable[[int], dict[str, Any]]

    def test_a_list_of_images_is_a_batch(self) -> None:
        pipeline, batch = self.build(), self.arguments(3)["image"]
        expected = self.images(pipeline, 3)
        as_array = [image.movedim(0, -1).numpy() for image in batch]
        for images in (list(batch), [batch[:1], batch[1:]], as_array):
            np.testing.assert_allclose(self.images(pipeline, 3, image=images), expected, atol=1e-6)
