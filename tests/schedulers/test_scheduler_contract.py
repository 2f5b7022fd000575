"""The scheduler contract holds for schedulers of diffusers itself: it asks nothing that the ecosystem does not give."""

from __future__ import annotations

from contracts.scheduler_contract import SchedulerContract
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler


class TestDDIM(SchedulerContract):
    scheduler_class = DDIMScheduler
    config = {"beta_schedule": "scaled_linear", "clip_sample": False, "timestep_spacing": "trailing"}
    errors = {50: 0.055, 100: 0.028, 200: 0.0145}


class TestDDPM(SchedulerContract):
    scheduler_class = DDPMScheduler
    config = {"beta_schedule": "scaled_linear", "clip_sample": False, "timestep_spacing": "trailing"}
    stochastic = True
    errors = {100: 0.025, 500: 0.008}


class TestDPMSolver(SchedulerContract):
    scheduler_class = DPMSolverMultistepScheduler
    config = {"beta_schedule": "scaled_linear", "timestep_spacing": "trailing", "final_sigmas_type": "zero"}
    errors = {20: 0.0065, 50: 0.0015, 400: 0.0004}
