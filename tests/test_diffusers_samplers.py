"""diffusers' schedulers as samplers: the same images as the lab's own, and each image's noise its own."""

from typing import Any

import pytest
import torch

from lab.configuration.diffusion import (
    CorruptionScheduleConfig,
    CosineScheduleConfig,
    DDIMConfig,
    DiffusersDDIMConfig,
    DiffusersDPMSolverConfig,
    DPMSolverConfig,
)
from lab.diffusion.denoising import timestep_grid
from lab.diffusion.diffusers_samplers import DIFFUSERS_SAMPLERS
from lab.diffusion.noise_source import NoiseSource
from lab.diffusion.samplers import sample
from lab.diffusion.schedules import NoiseSchedule, noise_schedule
from lab.errors import LabError
from lab.types import Conditions, Images, Timesteps

SCHEDULE = noise_schedule(CosineScheduleConfig(timesteps=200))


def images(
    config: Any,
    seeds: list[tuple[int, ...]],
    steps: int = 20,
    schedule: NoiseSchedule = SCHEDULE,
    asked: list[int] | None = None,
) -> Images:
    def ideal(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """The noise in images that are normal with mean 0.3 and standard deviation 0.2."""
        if asked is not None:
            asked.append(int(timesteps[0]))
        alpha, sigma = schedule.amounts(timesteps, x_t)
        return sigma * (x_t - 0.3 * alpha) / (alpha**2 * 0.2**2 + sigma**2)

    sampler = config(sampling_steps=steps, **({"clamp": False} if hasattr(config, "clamp") else {}))
    return sample(ideal, schedule, sampler, torch.zeros(len(seeds), 1), NoiseSource(seeds, (1, 4, 4)))


SEEDS: list[tuple[int, ...]] = [(0, image) for image in range(6)]


@pytest.mark.parametrize(
    ("theirs", "ours", "tolerance"),
    [(DiffusersDDIMConfig, DDIMConfig, 1e-4), (DiffusersDPMSolverConfig, DPMSolverConfig, 1e-3)],
)
def test_their_images_are_ours(theirs: Any, ours: Any, tolerance: float) -> None:
    torch.testing.assert_close(images(theirs, SEEDS), images(ours, SEEDS), atol=tolerance, rtol=0)


@pytest.mark.parametrize("config", list(DIFFUSERS_SAMPLERS))
def test_images_do_not_depend_on_their_batch(config: Any) -> None:
    torch.testing.assert_close(images(config, SEEDS)[4:], images(config, SEEDS[4:]))


@pytest.mark.parametrize("config", list(DIFFUSERS_SAMPLERS))
def test_ideal_noise_gives_images_of_the_right_distribution(config: Any) -> None:
    found = images(config, [(1, image) for image in range(200)], steps=100)
    assert float(found.mean()) == pytest.approx(0.3, abs=0.02)
    assert float(found.std()) == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("config", list(DIFFUSERS_SAMPLERS))
def test_numbers_of_steps_that_their_rounding_does_not_fit(config: Any) -> None:
    # 31 of 400: their spacing has a 32nd step, to the timestep -1.
    schedule, asked = noise_schedule(CosineScheduleConfig(timesteps=400)), list[int]()
    found = images(config, SEEDS, 31, schedule, asked)
    assert asked == timestep_grid(400, 31)
    assert float(found.mean()) == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize("config", list(DIFFUSERS_SAMPLERS))
def test_a_schedule_that_does_not_preserve_variance_is_refused(config: Any) -> None:
    with pytest.raises(LabError, match="needs a variance-preserving noise schedule"):
        images(config, SEEDS, schedule=noise_schedule(CorruptionScheduleConfig()))
