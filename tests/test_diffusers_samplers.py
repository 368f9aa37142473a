"""diffusers' schedulers as samplers: the same images as the lab's own, and each image's noise its own."""

from typing import Any

import pytest
import torch

from lab.configuration.diffusion import SamplerConfig, ScheduleConfig
from lab.diffusion.diffusers_samplers import SCHEDULERS
from lab.diffusion.noise_source import NoiseSource
from lab.diffusion.samplers import sample, timestep_grid
from lab.diffusion.schedules import NoiseSchedule, noise_schedule
from lab.types import Conditions, Images, Timesteps

SCHEDULE = noise_schedule(ScheduleConfig(timesteps=200))


def images(
    kind: Any,
    seeds: list[tuple[int, ...]],
    steps: int = 20,
    schedule: NoiseSchedule = SCHEDULE,
    asked: list[int] | None = None,
) -> Images:
    def ideal(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """The noise in images that are normal with mean 0.3 and standard deviation 0.2."""
        if asked is not None:
            asked.append(int(timesteps[0]))
        signal, spread = schedule.amounts(timesteps, x_t)
        return spread * (x_t - 0.3 * signal) / (signal**2 * 0.2**2 + spread**2)

    sampler = SamplerConfig(kind=kind, sampling_steps=steps, clamp=False)
    return sample(ideal, schedule, sampler, torch.zeros(len(seeds), 1), NoiseSource(seeds, (1, 4, 4)))


SEEDS: list[tuple[int, ...]] = [(0, image) for image in range(6)]


@pytest.mark.parametrize(
    ("theirs", "ours", "tolerance"), [("diffusers_ddim", "ddim", 1e-4), ("diffusers_dpm_solver", "dpm_solver", 1e-3)]
)
def test_their_images_are_ours(theirs: str, ours: str, tolerance: float) -> None:
    torch.testing.assert_close(images(theirs, SEEDS), images(ours, SEEDS), atol=tolerance, rtol=0)


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_images_do_not_depend_on_their_batch(kind: str) -> None:
    torch.testing.assert_close(images(kind, SEEDS)[4:], images(kind, SEEDS[4:]))


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_ideal_noise_gives_images_of_the_right_distribution(kind: str) -> None:
    found = images(kind, [(1, image) for image in range(200)], steps=100)
    assert float(found.mean()) == pytest.approx(0.3, abs=0.02)
    assert float(found.std()) == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_numbers_of_steps_that_their_rounding_does_not_fit(kind: str) -> None:
    # 31 of 400: their spacing has a 32nd step, to the timestep -1.
    schedule, asked = noise_schedule(ScheduleConfig(timesteps=400)), list[int]()
    found = images(kind, SEEDS, 31, schedule, asked)
    assert asked == timestep_grid(400, 31)
    assert float(found.mean()) == pytest.approx(0.3, abs=0.05)
