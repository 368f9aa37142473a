"""Objectives: what a perfect denoiser of each kind predicts is the noise, whichever it was asked for."""

from typing import get_args, get_type_hints

import pytest
import torch

from lab.configuration.diffusion import CorruptionScheduleConfig, CosineScheduleConfig
from lab.configuration.networks import ContextUnetConfig
from lab.configuration.training import TrainingConfig
from lab.diffusion.objectives import (
    CLEAN_IMAGES,
    ERRORS,
    NOISES,
    PREDICTIONS,
    TARGETS,
    WEIGHTINGS,
    AsNoisePredictor,
    loss_weights,
    target,
)
from lab.diffusion.schedules import NoiseSchedule, noise_schedule

SCHEDULE = noise_schedule(CosineScheduleConfig(timesteps=400))
TIMESTEPS = torch.tensor([0, 1, 7, 200, 398, 399])


def images(seed: int) -> torch.Tensor:
    return torch.randn(len(TIMESTEPS), 2, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_every_prediction_that_can_be_chosen_is_there() -> None:
    allowed = get_args(get_type_hints(ContextUnetConfig)["prediction"])
    assert all(set(allowed) == set(table) for table in (TARGETS, NOISES, ERRORS, PREDICTIONS, CLEAN_IMAGES))
    assert set(get_args(get_type_hints(TrainingConfig)["weighting"])) == {"as_predicted", *WEIGHTINGS}


@pytest.mark.parametrize("prediction", TARGETS)
def test_a_perfect_denoiser_gives_the_noise_at_every_timestep(prediction: str) -> None:
    x_0, noise = images(0).clamp(-1, 1), images(1)
    x_t = SCHEDULE.noised(x_0, TIMESTEPS, noise)
    perfect = target(prediction, x_0, noise, TIMESTEPS, SCHEDULE)
    predictor = AsNoisePredictor(lambda *_: perfect, prediction, SCHEDULE)
    torch.testing.assert_close(predictor(x_t, TIMESTEPS, torch.zeros(6, 1)), noise, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("prediction", TARGETS)
@pytest.mark.parametrize("schedule", [CosineScheduleConfig(timesteps=400), CorruptionScheduleConfig(timesteps=400)])
def test_a_perfect_prediction_gives_the_clean_image(
    prediction: str, schedule: CosineScheduleConfig | CorruptionScheduleConfig
) -> None:
    x_0, noise, amounts = images(0), images(1), noise_schedule(schedule)
    here = TIMESTEPS[:-1]
    x_t = amounts.noised(x_0[:-1], here, noise[:-1])
    perfect = target(prediction, x_0[:-1], noise[:-1], here, amounts)
    clean = CLEAN_IMAGES[prediction](x_t, perfect, *amounts.amounts(here, x_t))
    torch.testing.assert_close(clean, x_0[:-1], atol=1e-9, rtol=1e-9)


def test_targets_by_hand() -> None:
    x_0, noise = images(0), images(1)
    alpha_bar = SCHEDULE.alpha_bar[TIMESTEPS].view(-1, 1, 1, 1)
    torch.testing.assert_close(target("noise", x_0, noise, TIMESTEPS, SCHEDULE), noise)
    torch.testing.assert_close(target("x_0", x_0, noise, TIMESTEPS, SCHEDULE), x_0)
    v = target("v", x_0, noise, TIMESTEPS, SCHEDULE)
    torch.testing.assert_close(v, alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * x_0)
    x_t = SCHEDULE.noised(x_0, TIMESTEPS, noise)
    torch.testing.assert_close(alpha_bar.sqrt() * x_t - (1 - alpha_bar).sqrt() * v, x_0)


def test_an_error_of_v_is_not_multiplied_where_all_is_noise() -> None:
    x_0, noise, last = images(0)[:1], images(1)[:1], TIMESTEPS[-1:]
    x_t = SCHEDULE.noised(x_0, last, noise)
    signal, spread = SCHEDULE.amounts(last, x_t)

    def error_of_x_0(prediction: str) -> float:
        wrong = target(prediction, x_0, noise, last, SCHEDULE) + 0.01
        eps = AsNoisePredictor(lambda *_: wrong, prediction, SCHEDULE)(x_t, last, torch.zeros(1, 1))
        return float(((x_t - spread * eps) / signal - x_0).abs().max())

    assert error_of_x_0("v") == pytest.approx(0.01, rel=1e-3)
    assert error_of_x_0("noise") > 1


# The corruption baseline's schedule does not preserve the variance, and its last timestep has no image left.
CORRUPTION = noise_schedule(CorruptionScheduleConfig(timesteps=401))


@pytest.mark.parametrize("prediction", TARGETS)
@pytest.mark.parametrize(("weighting", "added"), [("min_snr", 0), ("min_snr_plus_one", 1)])
@pytest.mark.parametrize("schedule", [SCHEDULE, CORRUPTION], ids=["cosine", "corruption"])
def test_a_weighting_is_the_same_whatever_is_predicted(
    prediction: str, weighting: str, added: int, schedule: NoiseSchedule
) -> None:
    x_0, noise = images(0), images(1)
    x_t = schedule.noised(x_0, TIMESTEPS, noise)
    wrong = target(prediction, x_0, noise, TIMESTEPS, schedule) + 0.1 * images(2)
    eps = AsNoisePredictor(lambda *_: wrong, prediction, schedule)(x_t, TIMESTEPS, torch.zeros(6, 1))
    signal, spread = schedule.amounts(TIMESTEPS, x_t)
    error_of_x_0 = ((x_t - spread * eps) / signal - x_0).square().mean(dim=(1, 2, 3))
    error = (wrong - target(prediction, x_0, noise, TIMESTEPS, schedule)).square().mean(dim=(1, 2, 3))
    weights = loss_weights(prediction, weighting, 5.0, TIMESTEPS, schedule)
    of_x_0 = ((signal / spread).flatten() ** 2 + added).clamp(max=5)
    torch.testing.assert_close(weights * error, of_x_0 * error_of_x_0, rtol=1e-5, atol=0)


def test_as_predicted_nothing_is_weighted() -> None:
    assert loss_weights("v", "as_predicted", 5.0, TIMESTEPS, SCHEDULE).tolist() == [1] * len(TIMESTEPS)
