"""diffusers' schedulers as samplers: the same images as the lab's own, and each image's noise its own."""

import pytest
import torch

from lab.configuration import SamplerConfig, ScheduleConfig
from lab.diffusers_samplers import SCHEDULERS
from lab.noise_source import NoiseSource
from lab.sampling import sample
from lab.schedules import noise_schedule
from lab.types import Conditions, Images, Timesteps

SCHEDULE = noise_schedule(ScheduleConfig(timesteps=200))


def predictor(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
    """The ideal noise of images that are normal with mean 0.3 and standard deviation 0.2."""
    signal, spread = SCHEDULE.amounts(timesteps, x_t)
    return spread * (x_t - 0.3 * signal) / (signal**2 * 0.2**2 + spread**2)


def images(kind: str, seeds: list[tuple[int, ...]], steps: int = 20) -> Images:
    sampler = SamplerConfig(kind=kind, sampling_steps=steps, clamp=False)  # type: ignore[arg-type]
    return sample(predictor, SCHEDULE, sampler, torch.zeros(len(seeds), 1), NoiseSource(seeds, (1, 4, 4)))


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
