"""The tutorials' corruption: what networks are shown, and that DDIM samples it as the tutorials do."""

import pytest
import torch

from lab.configuration.diffusion import CorruptionScheduleConfig, DDIMConfig
from lab.diffusion.noise_source import NoiseSource
from lab.diffusion.objectives import AsNoisePredictor
from lab.diffusion.samplers import sample
from lab.diffusion.schedules import noise_schedule
from lab.types import Conditions, Images, Timesteps

CONFIG = CorruptionScheduleConfig(timesteps=1000)
SCHEDULE = noise_schedule(CONFIG)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_networks_are_shown_image_and_noise_in_shares_of_one() -> None:
    image = torch.rand(50, 1, 4, 4, generator=generator()) * 2 - 1
    noise = SCHEDULE.noise((50, 1, 4, 4), generator(1))
    timesteps = torch.linspace(0, 999, 50).long()
    amount = ((timesteps + 1) / 1001).view(-1, 1, 1, 1)
    shown = SCHEDULE.noised(image, timesteps, noise)
    torch.testing.assert_close(shown, (1 - amount) * image + amount * noise)


def test_the_noise_is_uniform() -> None:
    noise = SCHEDULE.noise((100_000,), generator())
    assert -1 <= float(noise.min()) < -0.999
    assert 0.999 < float(noise.max()) <= 1
    # Of a uniform distribution on [-1, 1]: mean 0, variance 1/3; four standard errors.
    assert abs(float(noise.mean())) < 4 * (1 / 3 / 100_000) ** 0.5
    assert float(noise.var()) == pytest.approx(1 / 3, abs=4 * (4 / 45 / 100_000) ** 0.5)


def network(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
    """A network that is told nothing but the image, and predicts a clean one."""
    return torch.tanh(1.5 * x_t + 0.3 * x_t.roll(1, 3))


@pytest.mark.parametrize("steps", [5, 50])
def test_an_extra_amount_mixes_as_the_tutorial_s_fifty_steps(steps: int) -> None:
    schedule = noise_schedule(CorruptionScheduleConfig(timesteps=steps, extra_amount=True))
    noise = NoiseSource([(0, image) for image in range(4)], (1, 6, 6), schedule.noise)
    x = NoiseSource([(0, image) for image in range(4)], (1, 6, 6), schedule.noise).draw()
    predictor = AsNoisePredictor(network, "x_0", schedule)
    ours = sample(predictor, schedule, DDIMConfig(sampling_steps=steps, clamp=False), torch.zeros(4, 1), noise)
    for i in range(steps):
        factor = 1 / (steps - i + 1)
        x = x * (1 - factor) + network(x, torch.zeros(4, dtype=torch.int64), torch.zeros(4, 1)) * factor
    torch.testing.assert_close(ours, x, atol=1e-4, rtol=0)


@pytest.mark.parametrize("steps", [5, 40])
def test_ddim_moves_by_one_over_the_steps_left_to_the_prediction(steps: int) -> None:
    noise = NoiseSource([(0, image) for image in range(4)], (1, 6, 6), SCHEDULE.noise)
    x = NoiseSource([(0, image) for image in range(4)], (1, 6, 6), SCHEDULE.noise).draw()
    sampler = DDIMConfig(sampling_steps=steps, clamp=False)
    predictor = AsNoisePredictor(network, "x_0", SCHEDULE)
    ours = sample(predictor, SCHEDULE, sampler, torch.zeros(4, 1), noise)
    for i in range(steps):
        predicted = network(x, torch.zeros(4, dtype=torch.int64), torch.zeros(4, 1))
        x = x + (predicted - x) / (steps - i)
    torch.testing.assert_close(ours, x, atol=1e-4, rtol=0)
