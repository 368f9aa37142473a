"""Noise schedules against their own definition."""

import math
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import mul
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lab.configuration.checks import as_primitives
from lab.configuration.diffusion import (
    BetasScheduleConfig,
    CorruptionScheduleConfig,
    CosineScheduleConfig,
    CyclicCosineScheduleConfig,
    LinearScheduleConfig,
)
from lab.configuration.kinds import read_kind
from lab.diffusion.schedules import SCHEDULES, cyclic_cosine_betas, noise_schedule
from lab.errors import LabError


def test_the_cyclic_cosine_has_a_period_of_50_between_its_ends() -> None:
    betas = cyclic_cosine_betas(CyclicCosineScheduleConfig(timesteps=400))
    torch.testing.assert_close(betas[:350], betas[50:])
    assert float(betas[0]) == pytest.approx(0.02)
    assert float(betas[25]) == pytest.approx(1e-4)
    # A sixth of the period: cos(60 degrees) = 1/2, so a quarter of the way down; t = 25/3 lies between 8 and 9.
    assert float(betas[8]) > 0.02 - (0.02 - 1e-4) / 4 > float(betas[9])


def test_an_extra_beta_is_the_coursework_s_grid_of_t_from_0() -> None:
    linear = [1e-4 + (0.02 - 1e-4) * t / 400 for t in range(401)]
    cyclic = [(0.02 - 1e-4) / 2 * math.cos(2 * math.pi * t / 50) + (0.02 + 1e-4) / 2 for t in range(401)]
    for kind, betas in ((LinearScheduleConfig, linear), (CyclicCosineScheduleConfig, cyclic)):
        schedule = noise_schedule(kind(timesteps=400, extra_beta=True))
        alpha_bar = list(accumulate((1 - beta for beta in betas), mul))
        # The source's t = 1 ... T are timesteps 0 ... T - 1; its alpha_bar_0 is where sampling ends.
        assert schedule.alpha_bar.tolist() == pytest.approx(alpha_bar[1:], abs=1e-12)
        assert (schedule.end[0] ** 2, schedule.end[1] ** 2) == pytest.approx((1 - betas[0], betas[0]))
        assert not schedule.ends_clean
    # Worked out by hand: 1 - 1e-4, then times 1 - (1e-4 + 0.0199 / 400).
    assert linear[1] == pytest.approx(1.4975e-4)
    first = noise_schedule(LinearScheduleConfig(timesteps=400, extra_beta=True))
    assert float(first.alpha_bar[0]) == pytest.approx(0.9999 * 0.99985025, abs=1e-12)
    assert noise_schedule(LinearScheduleConfig(timesteps=400)).ends_clean


def of_timesteps(kind: Any, timesteps: int) -> Any:
    """Return settings of a schedule with this many timesteps; a list of betas is the linear one's."""
    if kind is not BetasScheduleConfig:
        return kind(timesteps=timesteps)
    return BetasScheduleConfig(betas=tuple(torch.linspace(1e-4, 0.02, timesteps, dtype=torch.float64).tolist()))


@given(config=st.sampled_from(list(SCHEDULES)), timesteps=st.integers(2, 2000))
def test_every_schedule_falls_inside_zero_and_one(config: Any, timesteps: int) -> None:
    schedule = noise_schedule(of_timesteps(config, timesteps))
    alpha_bar = schedule.alpha_bar
    assert len(alpha_bar) == timesteps
    assert bool((schedule.alpha > 0).all())
    assert bool((schedule.sigma > 0).all())
    assert bool(((schedule.alpha / schedule.sigma).diff() < 0).all())
    assert bool((alpha_bar.diff() < 0).all())
    assert 0 < float(alpha_bar[-1]) < float(alpha_bar[0]) < 1


@pytest.mark.parametrize("config", list(SCHEDULES))
def test_noising_gives_image_and_noise_their_amounts(config: Any) -> None:
    schedule = noise_schedule(of_timesteps(config, 400))
    generator = torch.Generator().manual_seed(0)
    x_0, noise = torch.randn((2, 400, 1, 50, 50), generator=generator)
    x_t = schedule.noised(x_0, torch.arange(400), noise)
    # 1,000,000 draws: the standard error of a variance of 1 is 0.0014.
    expected = float((schedule.alpha**2 + schedule.sigma**2).mean())
    assert float(x_t.var()) == pytest.approx(expected, abs=0.007)
    assert schedule.preserves_variance == (config is not CorruptionScheduleConfig)
    if schedule.preserves_variance:
        assert expected == pytest.approx(1)
    still = schedule.noised(x_0, torch.arange(400), torch.zeros_like(noise))
    shares = still.flatten(1).var(dim=1) / x_0.flatten(1).var(dim=1)
    torch.testing.assert_close(shares, (schedule.alpha**2).float(), atol=1e-5, rtol=1e-4)


def test_the_coursework_schedule_is_warned_of_and_the_cosine_is_not() -> None:
    warning = noise_schedule(LinearScheduleConfig(timesteps=400)).warning()
    assert warning is not None
    assert "alpha_bar_T = 0.017" in warning
    assert noise_schedule(CosineScheduleConfig(timesteps=400)).warning() is None
    assert noise_schedule(LinearScheduleConfig(timesteps=1000)).warning() is None


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"timesteps": 1}, "--schedule.timesteps is 1"),
        ({"beta_start": float("nan")}, "--schedule.beta-start is nan; it must be from 1e-08 to 0.999"),
        ({"beta_end": 1.5}, "--schedule.beta-end is 1.5"),
        ({"beta_start": 0.1, "beta_end": 0.01}, "it must be from 0.1 to 0.999"),
    ],
)
def test_ranges(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(LabError, match=told):
        LinearScheduleConfig(**settings)


def test_a_list_of_betas_is_the_schedule_that_has_them() -> None:
    for zero_terminal in (False, True):
        linear = LinearScheduleConfig(timesteps=50, zero_terminal=zero_terminal)
        listed = replace(of_timesteps(BetasScheduleConfig, 50), zero_terminal=zero_terminal)
        assert listed.timesteps == 50
        assert torch.equal(noise_schedule(listed).alpha, noise_schedule(linear).alpha)
    stored = as_primitives({"schedule": listed})["schedule"]
    assert read_kind(SCHEDULES, stored, "schedule") == listed


@pytest.mark.parametrize("betas", [(0.1,), (0.1, 1.0), (0.0, 0.1), (0.1, float("nan"))])
def test_betas_that_make_no_schedule_are_refused(betas: Any) -> None:
    with pytest.raises(LabError):
        BetasScheduleConfig(betas=betas)


@given(linear=st.booleans(), timesteps=st.integers(2, 1000), beta_end=st.floats(1e-3, 0.5))
def test_zero_terminal_ends_in_noise_and_begins_where_it_did(linear: bool, timesteps: int, beta_end: float) -> None:
    config: Any = CosineScheduleConfig(timesteps=timesteps)
    if linear:
        config = LinearScheduleConfig(timesteps=timesteps, beta_end=beta_end)
    plain, shifted = (noise_schedule(replace(config, zero_terminal=zero)).alpha_bar for zero in (False, True))
    assert float(shifted[-1]) == pytest.approx(min(1e-6, float(plain[-1])))
    assert float(shifted[0]) == pytest.approx(float(plain[0]))
    assert bool((shifted.diff() < 0).all())


@dataclass(frozen=True)
class OfNobody:
    kind: str = "nobody's"
    timesteps: int = 10


def test_a_class_that_is_no_noise_schedule_is_refused() -> None:
    with pytest.raises(LabError, match="OfNobody is not a noise schedule; add it to"):
        noise_schedule(OfNobody())
