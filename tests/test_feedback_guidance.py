"""Feedback guidance against its own sampler, written from the paper, and against what the paper claims of it."""

from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from lab.configuration.diffusion import DDIMConfig
from lab.diffusion.denoising import timestep_grid
from lab.diffusion.noise_source import NoiseSource
from lab.diffusion.samplers import sample
from lab.guidance.effective_scale import EffectiveScale
from lab.guidance.evaluation_counter import EvaluationCounter
from lab.guidance.feedback import FeedbackMethod
from lab.guidance.method import Unguided
from lab.types import Conditions, Images, NoisePredictor
from tests.test_effective_scale import MEANS, ONE_LABEL, SCHEDULE, SHAPE, VARIANCE, VOCABULARY, at, mixture

SEEDS = [(0, i) for i in range(3)]


def guided(method: FeedbackMethod, weight: float, steps: int, network: NoisePredictor = mixture) -> NoisePredictor:
    return method.guide(Unguided(network, network, SCHEDULE, timestep_grid(100, steps), VOCABULARY), weight)


def edm_sampler(method: FeedbackMethod, weight: float, steps: int, stochastic: bool) -> tuple[Images, np.ndarray]:
    """The paper's sampler in noise levels, with its estimate of the posterior; returns images and guidance scales."""
    source = NoiseSource(SEEDS, SHAPE)
    grid = timestep_grid(100, steps)
    levels = [float(SCHEDULE.sigma[t] / SCHEDULE.alpha[t]) for t in grid] + [0.0]
    pi = method.pi
    # delta of t_0 and tau of t_1, with the transitions numbered from the last.
    offset = 1 / ((1 - method.start) * steps) * np.log((1 - pi) * 3 / (3 - 1))
    transitions = np.zeros(steps)
    for i in range(steps - 1):
        transitions[steps - i - 1] = (levels[i] ** 2 - levels[i + 1] ** 2) * levels[i + 1] ** 2 / levels[i] ** 2
    lower = int(np.floor(method.full * steps))
    part = method.full * steps - lower
    temperature = abs(2 * ((1 - part) * transitions[lower] + part * transitions[lower + 1]) / 10 * offset)
    minimal = np.log((1 - pi) * method.largest / (method.largest - 1))

    x = source.draw().double() / float(SCHEDULE.alpha[grid[0]])
    log_posterior = torch.zeros(3).double()
    scales = []
    for i, (here, there) in enumerate(zip(levels[:-1], levels[1:], strict=True)):
        scale = log_posterior.exp() / (log_posterior.exp() - (1 - pi)) + weight
        scales.append(scale.numpy())
        timesteps = torch.full((3,), grid[i])
        alpha = float(SCHEDULE.alpha[grid[i]])
        cond, uncond = (
            x - here * mixture(alpha * x, timesteps, conditions) for conditions in (ONE_LABEL, torch.zeros(3, 3))
        )
        mixed = uncond + scale.view(-1, 1, 1, 1) * (cond - uncond)
        if stochastic:
            x_next = there**2 / here**2 * x + (here**2 - there**2) / here**2 * mixed
            if there > 0:
                x_next = x_next + np.sqrt(here**2 - there**2) * there / here * source.draw().double()
        else:
            x_next = x + (there - here) * (x - mixed) / here
        if there > 0:
            variance = (here**2 - there**2) * there**2 / here**2
            means = [there**2 / here**2 * x + (here**2 - there**2) / here**2 * clean for clean in (cond, uncond)]
            errors = [((x_next - mean) ** 2).sum(dim=(1, 2, 3)) for mean in means]
            log_posterior = log_posterior - temperature / (2 * variance) * (errors[0] - errors[1]) + offset
            log_posterior = log_posterior.clamp(min=minimal, max=3.0)
        x = x_next
    return x, np.stack(scales)


@pytest.mark.parametrize("stochastic", [False, True], ids=["ode", "sde"])
@pytest.mark.parametrize(("method", "weight", "steps"), [
    (FeedbackMethod(), 0.0, 10), (FeedbackMethod(pi=0.6, start=0.75, full=0.55), 0.0, 12), (FeedbackMethod(), 1.5, 8),
    (FeedbackMethod(pi=0.9, largest=2.0), 0.0, 20),
])  # fmt: skip
def test_it_is_the_paper_s_sampler(method: FeedbackMethod, weight: float, steps: int, stochastic: bool) -> None:
    expected, scales = edm_sampler(method, weight, steps, stochastic)
    # Not the same scale for every image and step, and not one at its limits all the time.
    assert scales[1:].std() > 0.01
    sampler = DDIMConfig(sampling_steps=steps, clamp=False, eta=float(stochastic))
    found = sample(guided(method, weight, steps), SCHEDULE, sampler, ONE_LABEL, NoiseSource(SEEDS, SHAPE))
    torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-5)


def trajectory(method: FeedbackMethod, classes: Conditions, asked: Conditions, steps: int = 20) -> np.ndarray:
    """The guidance scales at every step of noised images of some classes, when others are requested, (steps, B)."""
    random = torch.Generator().manual_seed(4)
    members = (classes.double() @ MEANS.flatten(1)).view(-1, *SHAPE)
    clean = members + np.sqrt(VARIANCE) * torch.randn(members.shape, generator=random, dtype=torch.float64)
    noise = torch.randn(members.shape, generator=random, dtype=torch.float64)
    meter = EffectiveScale()
    predictor = meter.measured(guided(method, 0.0, steps, meter.observed(mixture)))
    scales = []
    for t in timestep_grid(100, steps):
        timesteps = torch.full((len(clean),), t)
        alpha, sigma = SCHEDULE.amounts(timesteps, clean)
        predictor(alpha * clean + sigma * noise, timesteps, asked)
        scales.append(meter.taken()[:, 0].numpy())
    return np.stack(scales)


def test_an_image_that_does_not_follow_its_condition_is_guided_more() -> None:
    asked = ONE_LABEL[:1].expand(200, 3)
    own, other = (trajectory(FeedbackMethod(), ONE_LABEL[k : k + 1].expand(200, 3), asked) for k in (0, 1))
    # The same noise in both; at pure noise every scale is 1 / pi.
    np.testing.assert_allclose(np.stack((own[0], other[0])), 1 / 0.95, rtol=1e-6)
    assert scipy.stats.ttest_rel(other[1:].mean(axis=0), own[1:].mean(axis=0), alternative="greater").pvalue < 1e-6


def test_scales_rise_to_three_at_the_start_where_the_halves_are_equal() -> None:
    def blind(x_t: Images, timesteps: Any, conditions: Conditions) -> Images:
        return mixture(x_t, timesteps, torch.zeros_like(conditions)) + 1e-9 * conditions.sum(dim=1).view(-1, 1, 1, 1)

    method = FeedbackMethod(start=0.5, largest=20.0)
    predictor, scales = guided(method, 0.0, 20, blind), []
    x_t, _, conditions = at(50)
    for t in timestep_grid(100, 20):
        timesteps = torch.full((3,), t)
        halves = [blind(x_t, timesteps, each) for each in (conditions, torch.zeros(3, 3))]
        moved = predictor(x_t, timesteps, conditions) - halves[1]
        scales.append(float((moved / (halves[0] - halves[1])).mean()))
    assert scales[10] == pytest.approx(3, rel=1e-3)
    assert scales[0] == pytest.approx(1 / 0.95, rel=1e-3)
    assert np.all(np.diff(scales) >= -1e-3)
    assert scales[-1] == pytest.approx(20, rel=1e-3)


@pytest.mark.parametrize(("pi", "weight", "evaluations"), [(0.95, 0.0, 6), (0.95, 2.0, 6), (1.0, 0.0, 3)])
def test_a_step_costs_both_halves(pi: float, weight: float, evaluations: int) -> None:
    counter = EvaluationCounter(mixture)
    guided(FeedbackMethod(pi=pi), weight, 10, counter)(*at(49))
    assert counter.evaluations == evaluations


def test_a_trajectory_forgets_the_one_before() -> None:
    predictor = guided(FeedbackMethod(), 0.0, 10)
    first = [predictor(*at(t)) for t in (99, 59, 19)]
    again = [predictor(*at(t)) for t in (99, 59, 19)]
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[1], guided(FeedbackMethod(), 0.0, 10)(*at(59)))
