"""Weight schedules: the mean, the bounds and the cost of every shape."""

import numpy as np
import pytest
import scipy
import torch

from lab.guidance.classifier_free import PlainMethod
from lab.guidance.evaluation_counter import EvaluationCounter
from lab.guidance.method import GuidanceMethod
from lab.guidance.weight_schedule import ScheduleMethod
from tests.test_guidance import at, guided, halves, images_of, predictor


@pytest.mark.parametrize("shape", ["constant", "linear", "cosine"])
def test_a_weight_that_changes_has_the_mean_it_was_given(shape: str) -> None:
    weights = []
    for t in range(100):
        conditional, unconditional = halves(t)
        eps = guided(ScheduleMethod(shape), 3.0)(*at(t))
        weights.append(float(((eps - conditional) / (conditional - unconditional)).mean()))
    # Evenly spaced from u = 0 to 1, both ends counted: the trapezoid of a straight line and of a half cosine are exact.
    assert sum(weights) / 100 == pytest.approx(3, abs=1e-4)
    assert weights[0] == pytest.approx(3 if shape == "constant" else 6, abs=1e-3)
    assert weights[-1] == pytest.approx(3 if shape == "constant" else 0, abs=1e-3)


def test_the_clamped_weight_stays_above_the_smallest() -> None:
    conditional, unconditional = halves(99)
    eps = guided(ScheduleMethod("clamped", smallest=1.5), 3.0)(*at(99))
    torch.testing.assert_close(eps, 2.5 * conditional - 1.5 * unconditional, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("a", "b"), [(2.0, 2.0), (2.0, 3.0), (1.5, 6.0)])
def test_the_beta_shape_multiplies_the_scale_by_the_density_at_the_progress(a: float, b: float) -> None:
    for t in range(100):
        conditional, unconditional = halves(t)
        scale = 4 * float(scipy.stats.beta.pdf(1 - t / 99, a, b))
        expected = unconditional + scale * (conditional - unconditional)
        eps = guided(ScheduleMethod("beta", a=a, b=b), 3.0)(*at(t))
        torch.testing.assert_close(eps, expected, atol=1e-5, rtol=1e-5)


def test_the_exponential_shape_grows_from_the_scale_by_its_rate() -> None:
    for t in (99, 50, 0):
        conditional, unconditional = halves(t)
        scale = 1.5 * np.exp(0.4 * (1 - t / 99))
        expected = unconditional + scale * (conditional - unconditional)
        torch.testing.assert_close(guided(ScheduleMethod("exponential", rate=0.4), 0.5)(*at(t)), expected)


@pytest.mark.parametrize(("shape", "rows"), [("beta", [2, 4, 2]), ("exponential", [2, 4, 4])])
def test_a_shape_computes_the_half_that_it_needs(shape: str, rows: list[int]) -> None:
    # The beta shape is unconditional at both ends; the exponential one at w = 0 is conditional at pure noise only.
    counted = []
    for t in (99, 50, 0):
        counter = EvaluationCounter(predictor)
        guided(ScheduleMethod(shape), 0.0, counter)(*at(t))
        counted.append(counter.evaluations)
    assert counted == rows


@pytest.mark.parametrize("neutral", [ScheduleMethod("beta", a=1.0, b=1.0), ScheduleMethod("exponential", rate=0.0)])
@pytest.mark.parametrize("weight", [-1.0, 0.0, 0.7, 4.0])
def test_a_flat_shape_is_plain_guidance_to_the_bit(neutral: GuidanceMethod, weight: float) -> None:
    assert torch.equal(images_of(neutral, weight), images_of(PlainMethod(), weight))
