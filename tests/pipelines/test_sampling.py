"""Every scheduler of diffusers in every pipeline that takes one: the samples are right, or a ValueError says what is.

The network is the exact one for pixels of N(m, s²) with m = −0.25 and s = 0.3, see `helpers.gaussian_denoiser`. Samples
are right if mean and deviation of at least 4,096 pixels are m to within 0.03 and s to within 20 %, with 50 steps: DDPM,
the least accurate, errs by 17 %. Noise would be wrong by 230 %, and LCM, for distilled networks, errs by 33 %.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers.schedulers
import pytest
import torch
from contracts.pipeline_contract import generator
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from helpers.gaussian_denoiser import MEAN, STD, GaussianDenoiser
from helpers.small_latent_diffusion import of_images
from helpers.small_segmentation import NETWORK, joint_unet, pipeline_of
from helpers.small_text_to_mr import WIDTH, small_text_to_mr
from torch import Tensor

from meddiffusers import (
    AnomalyDetectionPipeline,
    ImageDiffusionPipeline,
    LatentDiffusionPipeline,
    PatchUNet2DModel,
    ReversibleDDIMScheduler,
    TextToMRPipeline,
)

STEPS = 50
SCHEDULERS: dict[str, Any] = {
    name: getattr(diffusers.schedulers, name) for name in dir(diffusers.schedulers) if name.endswith("Scheduler")
}
SCHEDULERS = {  # without those that need a package that is not installed
    name: kind for name, kind in SCHEDULERS.items() if not hasattr(kind, "_backends")
}
BETAS: dict[str, Any] = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
SETTINGS: dict[str, Any] = {**BETAS, "timestep_spacing": "trailing", "clip_sample": False}


def with_denoiser(pipeline: Any, kind: str, **changes: Any) -> Any:
    """The pipeline with the exact network in place of its own."""
    pipeline.unet = GaussianDenoiser(kind, pipeline.unet.config, **changes)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def image(scheduler: Any, kind: str) -> Any:
    unet = PatchUNet2DModel(in_channels=4, sample_size=32, network=NETWORK)
    return with_denoiser(ImageDiffusionPipeline(unet, scheduler), kind)


def segmentation(scheduler: Any, kind: str) -> Any:
    return with_denoiser(pipeline_of(joint_unet(), scheduler), kind, channels=1)


def latent(scheduler: Any, kind: str) -> Any:
    parts = of_images().components | {"scheduler": scheduler}
    return with_denoiser(LatentDiffusionPipeline(**parts), kind)


def text(scheduler: Any, kind: str) -> Any:
    return with_denoiser(TextToMRPipeline(**small_text_to_mr().components | {"scheduler": scheduler}), kind)


def anomaly(scheduler: Any, kind: str) -> Any:
    unet = PatchUNet2DModel(in_channels=4, sample_size=32, network=NETWORK)
    return with_denoiser(AnomalyDetectionPipeline(unet, scheduler), kind)


def samples(pipeline: Any, steps: int = STEPS, **call: Any) -> Tensor:
    """4,096 samples of a pixel or more, in the range of the network."""
    call = {"num_inference_steps": steps, "generator": generator(0), **call}
    if isinstance(pipeline, ImageDiffusionPipeline):
        return 2 * pipeline(output_type="pt", **call).images - 1
    if isinstance(pipeline, LatentDiffusionPipeline):
        noise = torch.randn(1, 2, 64, 64, generator=generator(1))
        return pipeline(latents=noise, output_type="latent", **call).images
    if isinstance(pipeline, TextToMRPipeline):
        tokens = torch.zeros(1, 1, WIDTH)
        call = {"prompt_embeds": tokens, "guidance_scale": 1.0, "height": 128, "width": 128, **call}
        return pipeline(output_type="latent", **call).images
    if isinstance(pipeline, AnomalyDetectionPipeline):
        call = {"encoding": "noise", "strength": 1.0, "method": "none", **call}
        return 2 * pipeline(torch.zeros(1, 4, 32, 32), output_type="pt", **call).counterfactual - 1
    return 2 * pipeline(torch.zeros(1, 4, 64, 64), ensemble_size=1, output_type="pt", **call).probability[:, 1] - 1


def assert_right(x: Tensor) -> None:
    assert x.numel() >= 4096
    assert x.mean().item() == pytest.approx(MEAN, abs=0.03)
    assert x.std().item() == pytest.approx(STD, rel=0.2)


def refusal(pipeline: Any, **call: Any) -> str | None:
    """The message with which a call is refused; None if its samples are right. Nothing else may happen."""
    try:
        x = samples(pipeline, **call)
    except ValueError as error:
        assert "does not fit this network" in str(error) and "Write: pipe.scheduler = " in str(error)
        return str(error)
    assert_right(x)
    return None


PIPELINES: dict[str, Callable[[Any, str], Any]] = {
    "image": image,
    "segmentation": segmentation,
    "latent": latent,
    "text": text,
}
ANY = {
    "DDIMScheduler", "DDIMParallelScheduler", "DDPMScheduler", "DDPMParallelScheduler", "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler",
    "LMSDiscreteScheduler", "SASolverScheduler", "TCDScheduler", "UniPCMultistepScheduler",
}  # fmt: skip
NOT_SAMPLE = {
    "EulerAncestralDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "PNDMScheduler",
}  # fmt: skip
FLOW = {
    "FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "FlowMapEulerDiscreteScheduler",
    "LTXEulerAncestralRFScheduler", "DEISMultistepScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler",
    "DPMSolverSinglestepScheduler", "DPMSolverMultistepInverseScheduler", "SASolverScheduler",
}  # fmt: skip
UNBUILT = {  # from a configuration without what only they have
    "AmusedScheduler", "RFD4ProteinaScheduler", "UnCLIPScheduler", "VQDiffusionScheduler",
}  # fmt: skip


def built(name: str, config: Any) -> Any:
    """The scheduler from the configuration of another one; skips the test if it cannot be built."""
    try:
        return SCHEDULERS[name].from_config(config)
    except (TypeError, ValueError):
        assert name in UNBUILT
        pytest.skip("it has settings that no other scheduler has")


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize(
    ("pipeline", "kind"),
    [
        ("image", "epsilon"),
        ("image", "sample"),
        ("segmentation", "sample"),
        ("latent", "v_prediction"),
        ("text", "epsilon"),
    ],
)
@pytest.mark.slow
def test_every_scheduler_with_the_configuration_of_the_own_one(name: str, pipeline: str, kind: str) -> None:
    own: Any = DDIMScheduler(prediction_type=kind, **SETTINGS)
    pipe = PIPELINES[pipeline](own, kind)
    pipe.scheduler = built(name, own.config)
    message = refusal(pipe)
    assert (message is None) == (name in (ANY if kind == "sample" else ANY | NOT_SAMPLE)), message


@pytest.mark.parametrize("name", sorted(set(SCHEDULERS) - UNBUILT | {"UnCLIPScheduler"}))
@pytest.mark.parametrize(
    ("pipeline", "kind"), [("image", "v_prediction"), ("text", "epsilon"), ("segmentation", "sample")]
)
@pytest.mark.slow
def test_every_scheduler_with_its_defaults(name: str, pipeline: str, kind: str) -> None:
    """As the own one it may serve or not; in another's place it is right or refused."""
    pipe = PIPELINES[pipeline](DDIMScheduler(prediction_type=kind, **SETTINGS), kind)
    pipe.scheduler = SCHEDULERS[name]()
    message = refusal(pipe)
    assert (message is None) <= (kind == SCHEDULERS[name]().config.get("prediction_type"))


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("pipeline", ["latent", "text"])
@pytest.mark.slow
def test_every_scheduler_for_networks_of_flow_matching(name: str, pipeline: str) -> None:
    pipe = PIPELINES[pipeline](FlowMatchEulerDiscreteScheduler(), "flow_prediction")
    assert refusal(pipe) is None
    pipe.scheduler = built(name, {"prediction_type": "flow_prediction", "use_flow_sigmas": True})
    message = refusal(pipe)
    assert (message is None) == (name in FLOW), message


@pytest.mark.parametrize("name", SCHEDULERS)
def test_anomalies_take_no_scheduler_of_diffusers(name: str) -> None:
    pipe = anomaly(ReversibleDDIMScheduler(prediction_type="v_prediction"), "v_prediction")
    pipe.scheduler = built(name, pipe.scheduler.config)
    message = refusal(pipe)
    assert message and "its steps have no inverses" in message
    assert 'pipe.scheduler = ReversibleDDIMScheduler.from_config(pipe.config["noise_schedule"])' in message
    pipe.scheduler = ReversibleDDIMScheduler.from_config(pipe.config["noise_schedule"])
    assert refusal(pipe) is None
