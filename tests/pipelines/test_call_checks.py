"""Arguments that cannot be meant, and networks whose output is not finite, in every pipeline."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from contracts.pipeline_contract import generator
from diffusers import DDIMScheduler
from helpers.gaussian_pipelines import PIPELINES, anomaly, samples
from helpers.small_attribute_vae import calibrated
from helpers.small_latent_diffusion import of_images
from helpers.small_segmentation import pipeline_of, small_unet

from meddiffusers import ReversibleDDIMScheduler
from meddiffusers.pipelines.meddiffusers_checks_v1 import check_counts, check_finite, check_numbers

DENOISING = [*PIPELINES, "anomaly"]


def built(name: str) -> Any:
    if name == "anomaly":
        return anomaly(ReversibleDDIMScheduler(prediction_type="v_prediction"), "v_prediction")
    scheduler = DDIMScheduler(prediction_type="v_prediction", timestep_spacing="trailing", clip_sample=False)
    return PIPELINES[name](scheduler, "v_prediction")


class Broken(torch.nn.Module):
    """A network whose output is not finite from some call on."""

    dtype, device, stride = torch.float32, torch.device("cpu"), 1
    mask_labels: Any = {}
    id2label: Any = {}

    def __init__(self, unet: Any, call: int, value: float) -> None:
        super().__init__()
        self.unet, self.config, self.call, self.value, self.calls = unet, unet.config, call, value, 0

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        predicted = self.unet(*args, **kwargs).sample
        if self.calls >= self.call:
            predicted[..., 0, 0] = self.value
        return SimpleNamespace(sample=predicted)


@pytest.mark.parametrize("name", DENOISING)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_step_whose_output_is_not_finite_is_named(name: str, value: float) -> None:
    pipeline = built(name)
    pipeline.unet = Broken(pipeline.unet, 2, value)
    with pytest.raises(
        ValueError, match=r"unet holds NaN or infinite values in step 2 of 3 \(timestep 666\).* adapter"
    ):
        samples(pipeline, steps=3)
    assert pipeline.unet.calls == 2


@pytest.mark.parametrize(
    ("call", "broken", "message"),
    [
        ({"encoding": "inversion"}, 3, r"inversion step 3 of 3 \(timestep 999\)"),
        ({"encoding": "noise"}, 1, r"step 1 of 3 \(timestep 999\)"),
    ],
)
def test_the_steps_of_an_anomaly(call: dict[str, Any], broken: int, message: str) -> None:
    pipeline = built("anomaly")
    pipeline.unet = Broken(pipeline.unet, broken, float("nan"))
    with pytest.raises(ValueError, match=message):
        samples(pipeline, steps=3, **call)


def test_an_image_encoder() -> None:
    pipeline = pipeline_of(small_unet())
    torch.nn.init.constant_(pipeline.unet.image_encoder.conv_out.bias, float("nan"))
    with pytest.raises(ValueError, match="unet holds NaN or infinite values in the encoding of the images"):
        pipeline(torch.zeros(1, 4, 8, 8))


def test_a_vae() -> None:
    pipeline = calibrated()
    images = pipeline(2, generator=generator(0), output_type="np").images
    with torch.no_grad():
        for parameter in pipeline.vae.parameters():
            parameter.fill_(torch.nan)
    with pytest.raises(ValueError, match="vae holds NaN or infinite values in the decoding of the latents"):
        pipeline(2, generator=generator(0))
    with pytest.raises(ValueError, match="vae holds NaN or infinite values in the encoding of the images"):
        pipeline.encode(images)


@pytest.mark.parametrize("name", ["latent", "text"])
def test_a_vae_of_latents(name: str) -> None:
    pipeline = built(name)
    with torch.no_grad():
        pipeline.vae.decoder.conv_out.bias.fill_(torch.nan)
    with pytest.raises(ValueError, match="vae holds NaN or infinite values in the decoding of the latents"):
        pipeline.decode(samples(pipeline, steps=2))


@pytest.mark.parametrize("name", DENOISING)
@pytest.mark.parametrize("steps", [0, -1, 2.5, "10", None, True, 1001])
def test_steps_that_cannot_be_taken(name: str, steps: Any) -> None:
    pipeline = built(name)
    pipeline.unet.forward = lambda *_, **__: pytest.fail("the network ran")
    with pytest.raises(ValueError, match=rf"num_inference_steps={steps!r}; expected at (least 1|most 1000)"):
        samples(pipeline, steps=steps)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("image", {"batch_size": 1.5}),
        ("image", {"guidance_scale": float("nan")}),
        ("image", {"guidance_scale": "3"}),
        ("image", {"label": 5}),
        ("image", {"label": {"a": 1}}),
        ("image", {"batch_size": "2"}),
        ("image", {"timesteps": "900"}),
        ("image", {"sigmas": 5}),
        ("image", {"eta": float("nan")}),
        ("segmentation", {"ensemble_size": 2.0}),
        ("segmentation", {"batch_size": "8"}),
        ("segmentation", {"threshold": float("nan")}),
        ("segmentation", {"threshold": "0.5"}),
        ("anomaly", {"guidance_scale": float("inf")}),
        ("anomaly", {"strength": float("nan")}),
        ("anomaly", {"strength": None}),
        ("anomaly", {"smoothing": float("nan")}),
        ("anomaly", {"threshold": float("nan")}),
        ("anomaly", {"num_noise_samples": 1.5}),
        ("anomaly", {"num_inversion_iterations": 1.5}),
        ("anomaly", {"target": ["healthy"]}),
        ("latent", {"guidance_scale": float("nan")}),
        ("latent", {"label": 5}),
        ("latent", {"covariates": 5}),
        ("latent", {"covariates": [5]}),
        ("latent", {"extrapolate": "no"}),
        ("latent", {"timesteps": [900, "500"]}),
        ("latent", {"eta": "0"}),
        ("text", {"guidance_scale": float("nan")}),
        ("text", {"guidance_scale": None}),
        ("text", {"guidance_rescale": 1.5}),
        ("text", {"height": "64"}),
        ("text", {"width": 64.0}),
        ("text", {"height": 0}),
        ("text", {"strength": "1"}),
        ("text", {"strength": True}),
        ("text", {"num_images_per_prompt": 1.5}),
        ("text", {"eta": 2}),
        ("text", {"cross_attention_kwargs": "scale"}),
        ("text", {"cross_attention_kwargs": {"scale": None}}),
    ],
)
def test_numbers_that_cannot_be_meant(name: str, arguments: dict[str, Any]) -> None:
    pipeline = built(name)
    pipeline.unet.forward = lambda *_, **__: pytest.fail("the network ran")
    field, value = next(iter(arguments.items()))
    shown = re.escape(str(None if value == {"scale": None} else value)).strip("'\"")
    with pytest.raises(ValueError, match=rf"{field}.*{shown}|labels {shown}|sigmas=5|timesteps\[1\]='500'"):
        samples(pipeline, **arguments)


@pytest.mark.parametrize("name", DENOISING)
@pytest.mark.parametrize("given", [0, "seed", [0], [None], (generator(0),)])
def test_a_seed_is_no_generator(name: str, given: Any) -> None:
    with pytest.raises(ValueError, match=r"generator=.*; expected .* torch\.Generator\(\)\.manual_seed\(0\)"):
        samples(built(name), steps=2, generator=given)
    with pytest.raises(ValueError, match=r"generator=.*; expected"):
        calibrated()(1, generator=given)


@pytest.mark.parametrize("name", DENOISING)
class TestCallbacks:
    def test_what_cannot_be_called_is_refused_before_any_work(self, name: str) -> None:
        pipeline = built(name)
        pipeline.unet.forward = lambda *_, **__: pytest.fail("the network ran")
        for callback, message in (
            (3, "callback_on_step_end=3; expected a function"),
            ("print", "callback_on_step_end='print'; expected a function"),
            (lambda: None, "takes other arguments; expected a function f.pipeline, step, timestep, tensors"),
        ):
            with pytest.raises(ValueError, match=message):
                samples(pipeline, steps=2, callback_on_step_end=callback)
        for names in (None, 5, "latents"):
            with pytest.raises(ValueError, match=rf"tensor_inputs={names!r}; expected a list of latents"):
                samples(pipeline, steps=2, callback_on_step_end_tensor_inputs=names)
        with pytest.raises(ValueError, match="tensor_inputs has 5, noise; there is only latents"):
            samples(pipeline, steps=2, callback_on_step_end_tensor_inputs=[5, "noise"])

    def test_what_it_returns_must_replace_the_tensors(self, name: str) -> None:
        for change, message in (
            (lambda latents: latents, "returned a Tensor; expected tensors by name"),
            (lambda latents: 5, "returned a int; expected tensors by name"),
            (lambda latents: {"latent": latents}, "returned latent; expected only latents"),
            (lambda latents: {"latents": None}, "returned latents of NoneType; expected a tensor of shape"),
            (
                lambda latents: {"latents": latents[..., :4]},
                r"returned latents of \(.*, 4\); expected a tensor of shape",
            ),
            (lambda latents: {"latents": latents * float("nan")}, "returned latents with NaN or infinite values"),
        ):
            with pytest.raises(ValueError, match=message):
                samples(built(name), steps=2, callback_on_step_end=lambda p, i, t, k, f=change: f(k["latents"]))

    def test_a_callable_object_and_nothing_returned(self, name: str) -> None:
        seen: list[int] = []
        samples(built(name), steps=2, callback_on_step_end=lambda *step: seen.append(step[1]))
        assert seen == [0, 1]


@pytest.mark.parametrize("name", ["image", "latent", "text"])
def test_latents_that_are_no_noise(name: str) -> None:
    """They are not blamed on the weights."""
    pipeline = built(name)
    pipeline.unet.forward = lambda *_, **__: pytest.fail("the network ran")
    shape = {"image": (1, 4, 32, 32), "latent": (1, 2, 64, 64), "text": (1, 2, 64, 64)}[name]
    for latents, message in (
        ("noise", "of type str"),
        (np.zeros(shape), "of type ndarray"),
        (torch.zeros(shape[1:]), rf"of shape \({shape[1]}, "),
        (torch.full(shape, torch.nan), "with NaN or infinite values"),
        (torch.zeros(shape, dtype=torch.int64), "of the integer type int64"),
        (torch.zeros(*shape[:2], 0, 0), "of shape .*0, 0"),
    ):
        with pytest.raises(ValueError, match=rf"Got latents {message}.*; expected noise of shape \(1, {shape[1]}, "):
            samples(pipeline, steps=2, latents=latents)


@pytest.mark.parametrize("mask", ["mask.png", [["a"]], np.array("x"), np.full((8, 8), np.nan), np.full((8, 8), 0.5)])
def test_masks_are_arrays_of_whole_numbers(mask: Any) -> None:
    with pytest.raises(ValueError, match=r"Got a mask of type <U|Got label maps of shape .* with the ids (nan|0.5)"):
        of_images()(mask=mask, num_inference_steps=2)


def test_images_are_numbers() -> None:
    for image in (np.array([["a"]]), np.zeros((8, 8, 4), complex), np.array("file.png")):
        with pytest.raises(ValueError, match=r"Got an array of type (<U|complex)"):
            pipeline_of().preprocess(image)
        with pytest.raises(ValueError, match=r"Got an array of type (<U|complex)"):
            calibrated().preprocess(image)


class TestColours:
    """Where grey values are expected, colours are refused rather than taken for a batch."""

    RGB = np.zeros((16, 16, 3), np.uint8)

    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA", "CMYK"])
    def test_pil(self, mode: str) -> None:
        image = PIL.Image.fromarray(self.RGB).convert(mode)
        for modalities, given in (("flair",), image), (("t1", "t2"), {"t1": image}):
            pipeline = pipeline_of(small_unet(image_channels=len(modalities)), modalities=modalities)
            with pytest.raises(ValueError, match=f"PIL image of mode {mode}; expected grey values"):
                pipeline(given)

    def test_arrays(self) -> None:
        pipeline = pipeline_of(small_unet(image_channels=1), modalities=["flair"])
        for given in (self.RGB, {"flair": self.RGB}, np.zeros((8, 8, 4), np.float32)):
            with pytest.raises(ValueError, match=r"as colours have; expected grey values \(H, W\) or \(B, H, W\)"):
                pipeline(given)

    def test_four_modalities_are_no_colours(self) -> None:
        assert pipeline_of().preprocess(np.zeros((8, 8, 4), np.uint8)).shape == (1, 4, 8, 8)


def test_the_checks_themselves() -> None:
    check_counts(one=1, other=np.int64(3))
    check_numbers(scale=np.float32(2), other=0, tensor=torch.tensor(1.0))
    check_finite(torch.ones(2), "vae", "a step")
    with pytest.raises(ValueError, match="one=1 and other=0; expected at least 1 of each, as an integer"):
        check_counts(one=1, other=0)
    with pytest.raises(ValueError, match=r"the output is float16"):
        check_finite(torch.tensor([torch.inf], dtype=torch.float16), "vae", "a step")


@pytest.mark.parametrize("name", ["latent", "text"])
def test_images_and_latents_of_a_vae(name: str) -> None:
    pipeline, channels = built(name), {"latent": 2, "text": 1}[name]
    nan = torch.full((1, channels, 8, 8), torch.nan)
    for images in ("scan.png", None, np.zeros((1, channels, 8, 8)), torch.zeros(8, 8), torch.zeros(1, 3, 8, 8), nan):
        with pytest.raises(ValueError, match=r"Got images of (type|shape) .*; expected"):
            pipeline.encode(images)
    for latents in (
        "noise",
        np.zeros((1, 2, 4, 4)),
        torch.zeros(4, 4),
        torch.zeros(1, 5, 4, 4),
        torch.zeros(0, 2, 4, 4),
    ):
        with pytest.raises(ValueError, match=r"Got latents of (type|shape) .*; expected"):
            pipeline.decode(latents)


def test_latents_and_targets_of_an_attribute_vae() -> None:
    pipeline = calibrated()
    images = pipeline(1, generator=generator(0), output_type="np").images
    for latents in ("x", [1], 5, np.zeros((1, 4))):
        with pytest.raises(ValueError, match=r"Got latents of shape .*, expected finite values \(B, 4\)"):
            pipeline(latents=latents)
    for attributes in (5, "area", ["area"]):
        with pytest.raises(ValueError, match=r"attributes=.*; expected target values by name"):
            pipeline.edit(images, attributes)


def test_a_size_that_is_not_that_of_the_images() -> None:
    with pytest.raises(
        ValueError, match=r"height=32 and width=None, but the images have \(16, 16\); expected the same"
    ):
        built("text")(prompt_embeds=torch.zeros(1, 1, 16), guidance_scale=1.0, image=np.zeros((16, 16)), height=32)
