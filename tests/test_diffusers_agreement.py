"""Noise schedules and samplers against diffusers', number for number and step for step.

diffusers takes seconds to import, so that is left to the tests.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from lab.configuration.diffusion import (
    CosineScheduleConfig,
    DDIMConfig,
    DPMSolverConfig,
    LinearScheduleConfig,
)
from lab.diffusion.denoising import Denoising, timestep_grid
from lab.diffusion.noise_source import NoiseSource
from lab.diffusion.samplers import ancestral_step, ddim_step, moments
from lab.diffusion.schedules import noise_schedule
from lab.types import Conditions, Images, Timesteps


class Fixed(NoiseSource):
    """The same noise at every draw, in double precision."""

    def __init__(self, noise: Images) -> None:
        self.noise = noise

    def draw(self) -> Images:
        return self.noise


@pytest.mark.parametrize("timesteps", [50, 400, 1000])
@pytest.mark.parametrize(
    ("config", "theirs"), [(LinearScheduleConfig, "linear"), (CosineScheduleConfig, "squaredcos_cap_v2")]
)
def test_schedules_agree_with_diffusers(config: Any, theirs: str, timesteps: int) -> None:
    from diffusers import DDPMScheduler

    ours = noise_schedule(config(timesteps=timesteps))
    reference = DDPMScheduler(num_train_timesteps=timesteps, beta_schedule=theirs, beta_start=1e-4, beta_end=0.02)
    torch.testing.assert_close(ours.alpha_bar.float(), reference.alphas_cumprod, atol=1e-5, rtol=0)


def nonlinear(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
    return torch.tanh(1.3 * x_t + timesteps.view(-1, 1, 1, 1) / 400)


SCHEDULE = noise_schedule(CosineScheduleConfig(timesteps=400))
THEIRS = {"num_train_timesteps": 400, "beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "trailing"}


@pytest.mark.parametrize("steps", [4, 10, 40])
@pytest.mark.parametrize(
    ("config", "clamp", "name", "settings"),
    [
        (DDIMConfig(), True, "DDIMScheduler", {"clip_sample": True}),
        (DDIMConfig(), False, "DDIMScheduler", {"clip_sample": False}),
        (DPMSolverConfig(), False, "DPMSolverMultistepScheduler", {"final_sigmas_type": "zero"}),
    ],
)
def test_deterministic_samplers_are_diffusers_own(
    config: Any, clamp: bool, name: str, settings: dict[str, Any], steps: int
) -> None:
    import diffusers

    scheduler = getattr(diffusers, name)(**THEIRS, **settings)
    scheduler.set_timesteps(steps)
    assert scheduler.timesteps.tolist() == timestep_grid(400, steps)
    start = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    theirs = start
    kwargs = {"use_clipped_model_output": True} if config.kind == "ddim" else {}
    for t in scheduler.timesteps:
        noise = nonlinear(theirs, torch.full((3,), int(t)), torch.zeros(3, 1))
        theirs = scheduler.step(noise, t, theirs, **kwargs).prev_sample
    denoising = Denoising(nonlinear, SCHEDULE, torch.zeros(3, 1), Fixed(start))
    *_, ours = moments(replace(config, sampling_steps=steps, clamp=clamp), denoising)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("steps", [4, 40, pytest.param(400, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("step", "variance_type"), [(ancestral_step, "fixed_large"), (partial(ddim_step, eta=1), "fixed_small")]
)
def test_stochastic_steps_are_diffusers_own(step: Any, variance_type: str, steps: int) -> None:
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(**THEIRS, variance_type=variance_type, clip_sample=True)
    scheduler.set_timesteps(steps)
    # Their table is float32, in which 1 - alpha_bar near t = 0 keeps only four digits.
    scheduler.alphas_cumprod = SCHEDULE.alpha_bar
    x_t = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    denoising = Denoising(nonlinear, SCHEDULE, torch.zeros(2, 1), Fixed(x_t))
    for t, s in zip(grid := timestep_grid(400, steps), grid[1:], strict=False):
        eps = nonlinear(x_t, torch.full((2,), t), torch.zeros(2, 1))
        fresh = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(t), dtype=x_t.dtype)
        theirs = scheduler.step(eps, t, x_t, generator=torch.Generator().manual_seed(t)).prev_sample
        here, there = denoising.point(t), denoising.point(s)
        x_0 = ((x_t - here.sigma * eps) / here.alpha).clamp(-1, 1)
        ours = step(x_t, x_0, here, there, draw=partial(torch.clone, fresh))
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
        x_t = theirs
