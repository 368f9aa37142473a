"""Lift: its closed form on Gaussian data, its sign, and its independence of batches."""

import pytest
import torch

from lab.configuration.diffusion import CosineScheduleConfig
from lab.diffusion.schedules import noise_schedule
from lab.sweep.lift import lifts
from lab.types import Conditions, Images, Timesteps

SCHEDULE = noise_schedule(CosineScheduleConfig(timesteps=200))
MEANS, OF_CLASS, OF_ALL = (-0.5, 0.5), 0.1, 0.7
"""The mean of each class, and the standard deviations of a class and of all images, in every pixel."""
DRAWS = 40


def ideal(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
    """Predict the noise of normal data: of a class, or of all images under the null condition."""
    alpha, sigma = SCHEDULE.amounts(timesteps, x_t)
    given = conditions.sum(dim=1).bool().view(-1, 1, 1, 1)
    mean = (conditions @ torch.tensor(MEANS)).view(-1, 1, 1, 1)
    variance = torch.where(given, OF_CLASS**2, OF_ALL**2)
    return sigma * (x_t - alpha * mean) / (alpha**2 * variance + sigma**2)


def expected(x_0: float, mean: float) -> float:
    """Return the lift of images whose pixels are all x_0, from the closed form of each expected squared error."""
    total = 0.0
    for draw in range(DRAWS):
        t = int((draw + 0.5) * SCHEDULE.timesteps / DRAWS)
        alpha, sigma = float(SCHEDULE.alpha[t]), float(SCHEDULE.sigma[t])
        errors = []
        for centre, deviation in ((0.0, OF_ALL), (mean, OF_CLASS)):
            # The predicted noise is slope (x_t - alpha centre), and x_t = alpha x_0 + sigma noise.
            slope = sigma / (alpha**2 * deviation**2 + sigma**2)
            errors.append((1 - slope * sigma) ** 2 + (slope * alpha * (x_0 - centre)) ** 2)
        total += errors[0] - errors[1]
    return total / DRAWS


@pytest.mark.parametrize(("level", "of_class"), [(191, 1), (191, 0), (64, 0), (128, 1)])
def test_the_lift_has_its_closed_form(level: int, of_class: int) -> None:
    pixels = torch.full((1, 1, 64, 64), level, dtype=torch.uint8)
    conditions = torch.eye(2)[[of_class]]
    lift = lifts(ideal, SCHEDULE, pixels, conditions, [(0, 0)], DRAWS).item()
    truth = expected(level / 127.5 - 1, MEANS[of_class])
    # The standard error over 40 draws of 4,096 pixels is below 0.005.
    assert lift == pytest.approx(truth, abs=0.02)
    # An image at its class's mean is explained by the class, one at the other's mean is not.
    if level in (191, 64):
        assert (lift > 0) == (abs(level / 127.5 - 1 - MEANS[of_class]) < 0.01)


def test_the_lift_of_an_image_does_not_depend_on_the_others() -> None:
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (150, 1, 4, 4), dtype=torch.uint8, generator=random)
    conditions, seeds = torch.eye(2)[torch.arange(150) % 2], [(7, image) for image in range(150)]
    whole = lifts(ideal, SCHEDULE, pixels, conditions, seeds, 3)
    alone = torch.cat([lifts(ideal, SCHEDULE, pixels[[i]], conditions[[i]], [seeds[i]], 3) for i in (0, 77, 149)])
    torch.testing.assert_close(whole[[0, 77, 149]], alone)
    # Other noise gives another value.
    assert lifts(ideal, SCHEDULE, pixels[[0]], conditions[[0]], [(8, 0)], 3) != alone[0]
