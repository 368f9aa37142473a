"""Samplers against closed form on Gaussian data.

For data N(m, s^2) the ideal noise predictor is eps = sqrt(1 - ab) (x - sqrt(ab) m) / (ab s^2 + 1 - ab), and the
probability-flow ODE moves x along x = sqrt(ab) m + z sqrt(ab s^2 + 1 - ab) with z fixed.
"""

import math
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lab.configuration.diffusion import (
    AncestralConfig,
    CosineScheduleConfig,
    DDIMConfig,
    DPMSolverConfig,
    LinearScheduleConfig,
)
from lab.configuration.networks import ContextUnetConfig
from lab.diffusion.denoising import Denoising, Point, timestep_grid
from lab.diffusion.noise_source import NoiseSource
from lab.diffusion.samplers import ancestral_step, ddim_step, moments, sample
from lab.diffusion.schedules import NoiseSchedule, noise_schedule
from lab.errors import LabError
from lab.guidance.classifier_free import ClassifierFreeGuidance
from lab.networks.registry import build_denoiser
from lab.types import Conditions, Images, Timesteps
from tests.classes import some_classes

MEAN, DEVIATION = 0.3, 0.5
FINE = noise_schedule(LinearScheduleConfig(timesteps=4096, beta_start=1e-4 / 4, beta_end=0.02 / 4))
START, END = 3584, 512


class Fixed(NoiseSource):
    """The same noise at every draw, in double precision."""

    def __init__(self, noise: Images) -> None:
        self.noise = noise

    def draw(self) -> Images:
        return self.noise


def variance_at(t: int) -> float:
    alpha_bar = float(FINE.alpha_bar[t])
    return alpha_bar * DEVIATION**2 + 1 - alpha_bar


def ideal(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
    alpha_bar = FINE.alpha_bar[timesteps].view(-1, 1, 1, 1)
    variance = alpha_bar * DEVIATION**2 + 1 - alpha_bar
    return (1 - alpha_bar).sqrt() * (x_t - alpha_bar.sqrt() * MEAN) / variance


def at_the_end(config: Any, steps: int, start: Images) -> Images:
    """Run a deterministic sampler from START to END in this many even steps."""
    denoising = Between(ideal, FINE, torch.zeros(len(start), 1), Fixed(start))
    *_, end = moments(replace(config, sampling_steps=steps, clamp=False), denoising)
    return end


class Between(Denoising):
    """Denoising from START to END."""

    def points(self, sampling_steps: int) -> list[Point]:
        return [self.point(START - (START - END) * i // sampling_steps) for i in range(sampling_steps + 1)]


def order(errors: list[float]) -> float:
    """Return how often the error halves when the steps double, over the last doubling."""
    return math.log2(errors[-2] / errors[-1])


@pytest.mark.parametrize(("config", "expected"), [(DDIMConfig(), 1), (DPMSolverConfig(), 2)])
def test_deterministic_samplers_converge_to_the_ode_at_their_order(config: Any, expected: int) -> None:
    start = torch.full((1, 1, 1, 1), 1.7, dtype=torch.float64)
    z = (1.7 - math.sqrt(FINE.alpha_bar[START]) * MEAN) / math.sqrt(variance_at(START))
    exact = math.sqrt(FINE.alpha_bar[END]) * MEAN + z * math.sqrt(variance_at(END))
    errors = [abs(float(at_the_end(config, steps, start)) - exact) for steps in (32, 64, 128, 256)]
    assert order(errors) == pytest.approx(expected, abs=0.15)


@pytest.mark.parametrize("step", [ancestral_step, partial(ddim_step, eta=1)])
def test_stochastic_samplers_converge_to_the_marginal_at_order_1(step: Any) -> None:
    # Every step is affine in x and in its fresh noise, so the variance at the end follows from two unit responses a
    # step; the first step's input carries the exact variance of its timestep.
    denoising = Denoising(ideal, FINE, torch.zeros(1, 1), Fixed(torch.zeros(1, 1, 1, 1)))

    def response(t: int, s: int, x: float, fresh: float) -> float:
        x_t, here = torch.full((1, 1, 1, 1), x, dtype=torch.float64), denoising.point(t)
        x_0 = denoising.clean(x_t, here, clamp=False)
        return float(step(x_t, x_0, here, denoising.point(s), draw=lambda: torch.full_like(x_t, fresh)))

    errors = []
    for steps in (64, 128, 256):
        grid = [START - (START - END) * i // steps for i in range(steps + 1)]
        variance = variance_at(START)
        for t, s in zip(grid, grid[1:], strict=False):
            still = response(t, s, 0, 0)
            variance = (response(t, s, 1, 0) - still) ** 2 * variance + (response(t, s, 0, 1) - still) ** 2
        errors.append(abs(variance - variance_at(END)))
    assert order(errors) == pytest.approx(1, abs=0.15)


SCHEDULE = noise_schedule(CosineScheduleConfig(timesteps=400))


@given(timesteps=st.integers(1, 2000), data=st.data())
def test_a_grid_starts_at_the_last_timestep_and_falls(timesteps: int, data: st.DataObject) -> None:
    steps = data.draw(st.integers(1, timesteps))
    grid = timestep_grid(timesteps, steps)
    assert len(grid) == steps
    assert grid[0] == timesteps - 1
    assert all(t > s >= 0 for t, s in zip(grid, grid[1:], strict=False))


def test_more_steps_than_timesteps_are_refused() -> None:
    with pytest.raises(LabError, match="use at most as many as timesteps, 400"):
        timestep_grid(400, 401)


def test_the_noise_of_an_image_is_its_own() -> None:
    pairs = [(seed, index) for seed in range(3) for index in range(5)]
    source = NoiseSource(pairs, (1, 4, 4))
    first, second = source.draw(), source.draw()
    assert len({tuple(image.flatten().tolist()) for image in torch.cat((first, second))}) == 30
    for place, pair in enumerate(pairs):
        alone = NoiseSource([pair], (1, 4, 4))
        assert torch.equal(alone.draw()[0], first[place])
        assert torch.equal(alone.draw()[0], second[place])


@pytest.mark.parametrize("sampler", [AncestralConfig, DDIMConfig, DPMSolverConfig])
def test_images_do_not_depend_on_the_batch_they_are_in(sampler: Any) -> None:
    network = build_denoiser(
        ContextUnetConfig(n_feat=8), (1, 8, 8), some_classes(3), CosineScheduleConfig(), seed=0
    ).eval()
    predictor = ClassifierFreeGuidance(network, 2.0)
    config = sampler(sampling_steps=4)
    conditions = torch.eye(3).repeat(4, 1)
    pairs = [(0, index) for index in range(12)]

    def sampled(part: slice) -> Images:
        return sample(predictor, SCHEDULE, config, conditions[part], NoiseSource(pairs[part], (1, 8, 8)))

    together = sampled(slice(None))
    apart = torch.cat([sampled(slice(begin, begin + 5)) for begin in range(0, 12, 5)])
    torch.testing.assert_close(together, apart, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("alpha_scale", [0.5, 2.0])
@pytest.mark.parametrize("config", [DDIMConfig(), DPMSolverConfig(), DDIMConfig(eta=1), AncestralConfig()])
def test_a_schedule_of_another_scale_samples_the_same_images(config: Any, alpha_scale: float) -> None:
    """x_t scaled by c has alpha and sigma scaled by c: nothing in a sampler may count on alpha^2 + sigma^2 = 1."""
    scaled = NoiseSchedule(alpha_scale * SCHEDULE.alpha, alpha_scale * SCHEDULE.sigma)

    def predict(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        return torch.tanh(1.3 * x_t + timesteps.view(-1, 1, 1, 1) / 400)

    def predict_scaled(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        return predict(x_t / alpha_scale, timesteps, conditions)

    seeds = [(0, image) for image in range(3)]
    config, conditions = replace(config, sampling_steps=6), torch.zeros(3, 1)
    ours = sample(predict, SCHEDULE, config, conditions, NoiseSource(seeds, (1, 4, 4)))
    # The starting noise is that of sigma_T = 1.
    noise = ScaledFirst(seeds, (1, 4, 4), alpha_scale)
    torch.testing.assert_close(sample(predict_scaled, scaled, config, conditions, noise), ours, atol=1e-4, rtol=1e-4)


class ScaledFirst(NoiseSource):
    """Noise whose first draw is scaled."""

    def __init__(self, seeds: list[tuple[int, int]], image_shape: tuple[int, int, int], scale: float) -> None:
        super().__init__(seeds, image_shape)
        self.scale = scale

    def draw(self) -> Images:
        drawn, self.scale = self.scale * super().draw(), 1.0
        return drawn
