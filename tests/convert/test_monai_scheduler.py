"""Schedulers of MONAI bundles: the oracle is MONAI's own scheduler, step by step, or they are refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from monai.networks import schedulers as peers

from meddiffusers.convert.monai_scheduler import scheduler_of

DDIM, DDPM = "monai.networks.schedulers.DDIMScheduler", "generative.networks.schedulers.ddpm.DDPMScheduler"
SCALED = {"beta_start": 0.0015, "beta_end": 0.0195, "schedule": "scaled_linear_beta"}


@torch.no_grad()
def denoised(scheduler: Any, steps: int) -> torch.Tensor:
    """Noise after the steps of a scheduler, with a network of known output."""
    x = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        noise = torch.Generator().manual_seed(int(t))
        stepped = scheduler.step(torch.tanh(0.7 * x + t / 1000), int(t), x, generator=noise)
        x = stepped[0] if isinstance(stepped, tuple) else stepped.prev_sample
    return x


SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "scaled linear": {**SCALED, "clip_sample": False},
    "sigmoid": {"schedule": "sigmoid_beta", "beta_end": 0.01},
    "sigmoid of another range": {"schedule": "sigmoid_beta", "sig_range": 4},
    "cosine": {"schedule": "cosine"},
    "cosine of another offset": {"schedule": "cosine", "s": 0.02},
    "few steps": {**SCALED, "num_train_timesteps": 100},
    "sample": {**SCALED, "prediction_type": "sample"},
    "velocity": {**SCALED, "prediction_type": "v_prediction"},
    "wide clipping": {"clip_sample_min": -3, "clip_sample_max": 3},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("target", [DDIM, DDPM])
def test_the_steps_are_those_of_monai(target: str, settings: dict[str, Any]) -> None:
    settings = {"num_train_timesteps": 200, **settings}
    peer = getattr(peers, target.rpartition(".")[2])(**settings)
    found = scheduler_of({"scheduler": {"_target_": target, **settings}})
    assert isinstance(found, DDIMScheduler if target == DDIM else DDPMScheduler)
    assert found.config["prediction_type"] == settings.get("prediction_type", "epsilon")
    torch.testing.assert_close(found.alphas_cumprod, peer.alphas_cumprod, rtol=0, atol=1e-6)
    steps = peer.num_train_timesteps if target == DDPM else 20
    expected = denoised(peer, steps)
    torch.testing.assert_close(denoised(found, steps), expected, rtol=0, atol=2e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_the_variance_is_that_of_monai(variance: str) -> None:
    entry = {"num_train_timesteps": 50, "variance_type": variance, "clip_sample": False}
    found = scheduler_of({"noise_scheduler": {"_target_": DDPM, **entry}})
    torch.testing.assert_close(denoised(found, 50), denoised(peers.DDPMScheduler(**entry), 50), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("to_one", [True, False])
def test_the_last_step_is_that_of_monai(to_one: bool) -> None:
    entry = {**SCALED, "clip_sample": False, "set_alpha_to_one": to_one}
    found = scheduler_of({"scheduler": {"_target_": DDIM, **entry}})
    torch.testing.assert_close(denoised(found, 7), denoised(peers.DDIMScheduler(**entry), 7))


@pytest.mark.parametrize("old", ["beta_schedule", "schedule_beta"])
@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "sigmoid"])
def test_names_of_earlier_versions_are_known(old: str, schedule: str) -> None:
    found = scheduler_of({"noise_scheduler": {"_target_": DDIM, old: schedule, "beta_end": 0.03}})
    torch.testing.assert_close(found.betas, peers.DDIMScheduler(schedule=f"{schedule}_beta", beta_end=0.03).betas)


ENTRY = {"_target_": DDIM, **SCALED}
PLACES: dict[str, dict[str, Any]] = {
    "referred to": {"scheduler": "@ddim", "ddim": ENTRY},
    "of the class": {"scheduler": {**ENTRY, "_target_": "DDIMScheduler"}},
    "without a class": {"scheduler": SCALED},
    "values referred to": {
        "b": [0.0015],
        "s": "scaled_linear_beta",
        "scheduler": {**ENTRY, "beta_start": "@b::0", "schedule": "@s"},
    },
    "under another name": {"ddim_scheduler": ENTRY},
    "inside an inferer": {"inferer": {"_target_": "generative.inferers.DiffusionInferer", "scheduler": ENTRY}},
    "beside that of the training": {"scheduler": ENTRY, "noise_scheduler": {**ENTRY, "_target_": DDPM}},
    "beside that of the learning rate": {
        "lr_scheduler": {"_target_": "torch.optim.lr_scheduler.LRScheduler", "optimizer": "@o"},
        "noise_scheduler": ENTRY,
    },
    "beside one that is disabled": {
        "scheduler": {"_target_": "a.RFlowScheduler", "_disabled_": True},
        "noise_scheduler": {**ENTRY, "_disabled_": "false", "_requires_": ["@absent"], "_desc_": "$x"},
    },
}


@pytest.mark.parametrize("settings", PLACES.values(), ids=PLACES)
def test_it_is_found_where_it_stands(settings: dict[str, Any]) -> None:
    found = scheduler_of(settings)
    assert isinstance(found, DDIMScheduler)
    assert torch.equal(found.betas, peers.DDIMScheduler(**SCALED).betas)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "none": ({}, "describe no noise scheduler; expected MONAI's DDIMScheduler or DDPM"),
    "disabled": ({"scheduler": {**ENTRY, "_disabled_": True}}, "describe no noise scheduler"),
    "learning rate": ({"scheduler": {"_target_": "torch.optim.lr_scheduler.LRScheduler"}}, "describe no noise sch"),
    "flow": (
        {"noise_scheduler": {"_target_": "monai.networks.schedulers.rectified_flow.RFlowScheduler"}},
        r"have a monai\.networks\.schedulers\.rectified_flow\.RFlowScheduler in noise_scheduler, which has no equal",
    ),
    "flow elsewhere": ({"sampler": {"a": [{"_target_": "RFlowScheduler"}]}}, "RFlowScheduler in sampler::a::0"),
    "PNDM": ({"scheduler": {**ENTRY, "_target_": "generative.networks.schedulers.PNDMScheduler"}}, "no equal in diff"),
    "class elsewhere": ({"scheduler": {**ENTRY, "_target_": "monai.inferers.DDIMScheduler"}}, "have a monai.inferers"),
    "method": ({"scheduler": {**ENTRY, "_target_": f"{DDIM}.from_config"}}, "DDIMScheduler.from_config in scheduler"),
    "two schedules": ({"scheduler": {**ENTRY, "beta_schedule": "linear"}}, "has schedule and beta_schedule; expected"),
    "own class": ({"scheduler": {**ENTRY, "_target_": "scripts.DDIMScheduler"}}, "have a scripts.DDIMScheduler in sch"),
    "class of diffusers": ({"scheduler": {**ENTRY, "_target_": "diffusers.DDIMScheduler"}}, "have a diffusers.DDIMSch"),
    "expression": ({"scheduler": "$make()"}, r"have scheduler as '\$make\(\)'; expected"),
    "expression inside": (
        {"scheduler": {**ENTRY, "prediction_type": "$monai.networks.schedulers.ddpm.DDPMPredictionType.V_PREDICTION"}},
        "has expressions for prediction_type, which are not evaluated",
    ),
    "expression referred to": ({"scheduler": {**ENTRY, "beta_end": "@b"}, "b": "$0.1 / 2"}, "expressions for beta_end"),
    "expression for a class": ({"scheduler": {**ENTRY, "_target_": "$x"}}, r"have a \$x in scheduler"),
    "class of a number": ({"scheduler": {**ENTRY, "_target_": 3}}, "have a 3 in scheduler"),
    "nothing referred to": ({"scheduler": {**ENTRY, "beta_end": "@b"}}, "refer to @b, which they do not define"),
    "list": ({"scheduler": [1]}, r"have scheduler as \[1\]; expected"),
    "schedule": ({"scheduler": {**ENTRY, "schedule": "exponential"}}, "no DDIMScheduler of MONAI: .*exponential"),
    "argument of the schedule": ({"scheduler": {**ENTRY, "sig_range": 3}}, "no DDIMScheduler of MONAI: .*sig_range"),
    "prediction type": ({"scheduler": {**ENTRY, "prediction_type": "noise"}}, "describes no DDIMScheduler of MONAI"),
    "prediction of nothing": ({"scheduler": {**ENTRY, "prediction_type": None}}, "describes no DDIMScheduler of MONAI"),
    "steps of text": ({"scheduler": {**ENTRY, "num_train_timesteps": "1000"}}, "has num_train_timesteps as '1000'"),
    "no steps": ({"scheduler": {**ENTRY, "num_train_timesteps": 0}}, "has num_train_timesteps as 0; expected 1 to"),
    "endless steps": ({"scheduler": {**ENTRY, "num_train_timesteps": 10**12}}, "expected 1 to"),
    "flag of text": ({"scheduler": {**ENTRY, "clip_sample": "false"}}, "has clip_sample as 'false'; expected true or"),
    "betas above 1": ({"scheduler": {**ENTRY, "beta_end": 1.5}}, "betas outside 0 to 1"),
    "negative betas": ({"scheduler": {"_target_": DDIM, "beta_start": -0.1}}, "betas outside 0 to 1"),
    "betas of NaN": ({"scheduler": {**ENTRY, "beta_end": math.nan}}, "betas outside 0 to 1"),
    "betas of text": ({"scheduler": {**ENTRY, "beta_end": "0.02"}}, "describes no DDIMScheduler of MONAI"),
    "one-sided clipping": ({"scheduler": {**ENTRY, "clip_sample_min": 0}}, "has clip_sample_min=0 and clip_sample_max"),
    "offset": ({"scheduler": {**ENTRY, "steps_offset": 1}}, "has steps_offset=1, which has no equal"),
    "learnt variance": (
        {"scheduler": {"_target_": DDPM, "variance_type": "learned_range"}},
        "has variance_type=learned_range, which has no equal",
    ),
    "different betas": (
        {"scheduler": ENTRY, "noise_scheduler": {**ENTRY, "beta_end": 0.02}},
        "describe different noise in scheduler and noise_scheduler",
    ),
    "different predictions": (
        {"scheduler": ENTRY, "inferer": {"scheduler": {**ENTRY, "prediction_type": "v_prediction"}}},
        "different noise in scheduler and inferer::scheduler",
    ),
}


@pytest.mark.parametrize("settings,message", REFUSED.values(), ids=REFUSED)
def test_one_without_an_equal_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scheduler_of(settings)
