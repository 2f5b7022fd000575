"""Every scheduler of diffusers in every pipeline that takes one: the samples are right, or a ValueError says what is.

The network is the exact one for pixels of N(m, s²) with m = −0.25 and s = 0.3, see `helpers.gaussian_denoiser`. Samples
are right if mean and deviation of at least 4,096 pixels are m to within 0.03 and s to within 20 %, with 50 steps: DDPM,
the least accurate, errs by 17 %. Noise would be wrong by 230 %, and LCM, for distilled networks, errs by 33 %.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import diffusers.schedulers
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler, HeunDiscreteScheduler
from helpers.gaussian_denoiser import MEAN, STD
from helpers.gaussian_pipelines import PIPELINES, anomaly, samples
from helpers.small_segmentation import joint_unet, pipeline_of
from torch import Tensor

from meddiffusers import ReversibleDDIMScheduler
from meddiffusers.hub.load import load

ROOT = Path(__file__).parents[2]
NOISE = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")
SCHEDULERS: dict[str, Any] = {
    name: getattr(diffusers.schedulers, name) for name in dir(diffusers.schedulers) if name.endswith("Scheduler")
}
SCHEDULERS = {  # without those that need a package that is not installed
    name: kind for name, kind in SCHEDULERS.items() if not hasattr(kind, "_backends")
}
BETAS: dict[str, Any] = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
V = "flow_prediction"
SETTINGS: dict[str, Any] = {**BETAS, "timestep_spacing": "trailing", "clip_sample": False}


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


ANY = {
    "DDIMScheduler", "DDIMParallelScheduler", "DDPMScheduler", "DDPMParallelScheduler", "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler",
    "LMSDiscreteScheduler", "SASolverScheduler", "TCDScheduler", "UniPCMultistepScheduler",
}  # fmt: skip
NOT_SAMPLE = {
    "DPMSolverSDEScheduler", "EulerAncestralDiscreteScheduler", "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler", "PNDMScheduler",
}  # fmt: skip
FLOW = {
    "FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "FlowMapEulerDiscreteScheduler",
    "LTXEulerAncestralRFScheduler", "DEISMultistepScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler",
    "DPMSolverSinglestepScheduler", "DPMSolverMultistepInverseScheduler", "SASolverScheduler",
}  # fmt: skip
REQUIRED: dict[str, dict[str, Any]] = {  # settings without a default, or that the configuration of DDIM contradicts
    "AmusedScheduler": {"mask_token_id": 0},
    "RFD4ProteinaScheduler": {"schedule_mode": "log", "noise_mode": "1/t", "tsr_k": 1.0, "tsr_sigma": 1.0},
    "UnCLIPScheduler": {},
    "VQDiffusionScheduler": {"num_vec_classes": 4},
}


def built(name: str, config: Any) -> Any:
    """The scheduler from the configuration of another one, or, where that is impossible, with its defaults."""
    return SCHEDULERS[name](**REQUIRED[name]) if name in REQUIRED else SCHEDULERS[name].from_config(config)


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize(
    ("pipeline", "kind"),
    [
        ("image", "epsilon"),
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


@pytest.mark.parametrize("name", sorted(set(SCHEDULERS) - set(REQUIRED)))
@pytest.mark.slow
def test_every_scheduler_with_its_defaults(name: str) -> None:
    """As the own one it may serve or not; in another's place it is right or refused."""
    pipe = PIPELINES["text"](DDIMScheduler(prediction_type="epsilon", **SETTINGS), "epsilon")
    pipe.scheduler = SCHEDULERS[name]()
    message = refusal(pipe)
    assert (message is None) <= (pipe.scheduler.config.get("prediction_type") == "epsilon")


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.slow
def test_every_scheduler_for_networks_of_flow_matching(name: str) -> None:
    pipe = PIPELINES["latent"](FlowMatchEulerDiscreteScheduler(), "flow_prediction")
    assert refusal(pipe) is None
    pipe.scheduler = built(name, {"prediction_type": "flow_prediction", "use_flow_sigmas": True})
    message = refusal(pipe)
    assert (message is None) == (name in FLOW), message


@pytest.mark.parametrize(
    ("kind", "name"), [("epsilon", n) for n in sorted(ANY | NOT_SAMPLE)] + [(V, n) for n in sorted(FLOW)]
)
@pytest.mark.slow
def test_schedulers_that_start_from_images(kind: str, name: str) -> None:
    """Images of the Gaussian stay such, of any strength; those that cannot begin in the middle are refused."""
    own: Any = FlowMatchEulerDiscreteScheduler() if kind == V else DDIMScheduler(prediction_type=kind, **SETTINGS)
    pipe = PIPELINES["text"](own, kind)
    pipe.scheduler = built(name, {"prediction_type": V, "use_flow_sigmas": True} if kind == V else own.config)
    pipe.encode = lambda images: MEAN + STD * torch.randn(1, 2, 64, 64, generator=torch.Generator().manual_seed(4))
    call = {"image": torch.zeros(1, 1, 128, 128), "strength": 0.1, "height": None, "width": None}
    message = refusal(pipe, **call)
    wrong = name == "PNDMScheduler" or (kind == V and name in {"SASolverScheduler", "LTXEulerAncestralRFScheduler"})
    assert (message is None) != wrong, message


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.slow
def test_anomalies_take_no_scheduler_of_diffusers(name: str) -> None:
    pipe = anomaly(ReversibleDDIMScheduler(prediction_type="v_prediction"), "v_prediction")
    pipe.scheduler = built(name, pipe.scheduler.config)
    message = refusal(pipe)
    assert message and "its steps have no inverses" in message
    assert 'pipe.scheduler = ReversibleDDIMScheduler.from_config(pipe.config["noise_schedule"])' in message
    pipe.scheduler = ReversibleDDIMScheduler.from_config(pipe.config["noise_schedule"])
    assert refusal(pipe) is None


def ddim(**changes: Any) -> Any:
    return DDIMScheduler(**{**SETTINGS, "prediction_type": "v_prediction", **changes})


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prediction_type": "epsilon"}, "prediction_type='epsilon', and the network predicts 'v_prediction'"),
        ({"beta_schedule": "scaled_linear"}, r"its betas differ .* \(ᾱ is .* at timestep 500; 0\.0778"),
        ({"num_train_timesteps": 500}, r"its betas differ .* \(ᾱ is 500 steps; 0\.0778 of 1000 steps"),
        ({"rescale_betas_zero_snr": True}, "its betas differ"),
    ],
)
def test_what_differs_is_named_and_the_line_to_write_works(pipeline: str, changes: Any, message: str) -> None:
    pipe = PIPELINES[pipeline](ddim(), "v_prediction")
    pipe.scheduler = ddim(**changes)
    with pytest.raises(ValueError, match=message) as error:
        samples(pipe)
    found = re.search(r"Write: (pipe\.scheduler = .*)$", str(error.value))
    assert found
    exec(found[1], {"pipe": pipe, "DDIMScheduler": DDIMScheduler})
    assert refusal(pipe) is None


def test_a_configuration_that_leaves_out_defaults_is_not_that_of_another_class() -> None:
    """diffusers takes what DDIM has by default for Heun's defaults, whose betas are others."""
    pipe = PIPELINES["image"](DDIMScheduler(prediction_type="v_prediction"), "v_prediction")
    pipe.scheduler = HeunDiscreteScheduler.from_config(pipe.scheduler.config)
    assert "its betas differ" in (refusal(pipe) or "")
    pipe.scheduler = HeunDiscreteScheduler.from_config(pipe.config["noise_schedule"], timestep_spacing="trailing")
    assert refusal(pipe) is None


@pytest.mark.parametrize(
    ("scheduler", "steps", "message"),
    [
        (
            ddim(timestep_spacing="leading"),
            1,
            "num_inference_steps=1 is too few .* noise is left: .* standard deviation (0.99|1)\\.",
        ),
        (
            HeunDiscreteScheduler(**BETAS, prediction_type="v_prediction"),
            2,
            "num_inference_steps=2 is too few for this HeunDiscreteScheduler, so noise is left: tried",
        ),
    ],
)
def test_too_few_steps_for_a_grid_that_leaves_noise(scheduler: Any, steps: int, message: str) -> None:
    pipe = PIPELINES["image"](scheduler, "v_prediction")
    with pytest.warns(UserWarning, match=message):
        samples(pipe, steps=steps)
    assert refusal(pipe) is None


def test_a_variance_that_the_network_does_not_predict() -> None:
    for pipeline in ("image", "segmentation", "latent", "text"):
        pipe = PIPELINES[pipeline](ddim(), "v_prediction")
        pipe.scheduler = DDPMScheduler.from_config(ddim().config, variance_type="learned_range")
        if pipeline == "image":
            pipe.unet.config = {**pipe.unet.config, "out_channels": 4}
        assert "variance_type='learned_range', and the network predicts no variance" in (refusal(pipe) or "")


def test_the_noise_of_training_is_saved_and_outlives_another_scheduler(tmp_path: Any) -> None:
    own: Any = ddim(beta_end=0.01)
    pipe = pipeline_of(joint_unet(), own)
    pipe.save_pretrained(tmp_path)
    for again in (
        type(pipe).from_pretrained(tmp_path, scheduler=ddim()),
        type(pipe).from_pipe(type(pipe).from_pretrained(tmp_path), scheduler=ddim()),
    ):
        assert again.config["noise_schedule"] == {
            "prediction_type": "v_prediction",
            **{n: own.config[n] for n in NOISE},
        }
        with pytest.raises(ValueError, match="its betas differ"):
            again(torch.zeros(1, 4, 8, 8), num_inference_steps=2)
        again.scheduler = own
        assert again(torch.zeros(1, 4, 8, 8), num_inference_steps=2, ensemble_size=1).mask.shape == (1, 8, 8)
    assert (
        type(pipe).from_pipe(pipe, scheduler=ddim(), noise_schedule=None).config["noise_schedule"]["beta_end"] == 0.02
    )


@pytest.mark.slow
def test_the_shipped_segmentation_refuses_the_defaults_of_its_own_class() -> None:
    """With which the members' Dice fell from 0.9 to 0.07, and nothing showed, as the mask does not come from them."""
    pipe = load(ROOT / "examples" / "checkpoints" / "seg-ddpm-brain")
    pipe.scheduler = DDIMScheduler()
    with pytest.raises(ValueError, match="takes prediction_type='epsilon', and the network predicts 'sample'"):
        pipe(torch.zeros(1, 4, 96, 96))


def test_a_pipeline_without_a_scheduler() -> None:
    pipe = PIPELINES["image"](ddim(), "v_prediction")
    pipe.scheduler = None
    with pytest.raises(ValueError, match="This pipeline has no scheduler"):
        samples(pipe)
