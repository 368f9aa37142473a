"""Classifier-free guidance against its equation."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lab.guidance import ClassifierFreeGuidance, EvaluationCounter
from lab.types import Conditions, Images, Timesteps


def predictor(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
    """A noise predictor that any of its inputs changes."""
    return torch.sin(3 * x_t + timesteps.view(-1, 1, 1, 1)) + (conditions @ torch.arange(1.0, 4)).view(-1, 1, 1, 1)


X_T = torch.linspace(-2, 2, 2 * 3 * 4 * 4).view(2, 3, 4, 4)
TIMESTEPS = torch.tensor([3, 90])
CONDITIONS = torch.tensor([[1.0, 0, 0], [0, 1, 1]])
CONDITIONAL = predictor(X_T, TIMESTEPS, CONDITIONS)
UNCONDITIONAL = predictor(X_T, TIMESTEPS, torch.zeros(2, 3))


def test_weight_0_is_the_conditional_prediction_to_the_bit() -> None:
    assert torch.equal(ClassifierFreeGuidance(predictor, 0.0)(X_T, TIMESTEPS, CONDITIONS), CONDITIONAL)


def test_weight_minus_1_is_the_unconditional_prediction_to_the_bit() -> None:
    assert torch.equal(ClassifierFreeGuidance(predictor, -1.0)(X_T, TIMESTEPS, CONDITIONS), UNCONDITIONAL)


@given(st.floats(-1, 20))
def test_every_weight_follows_the_equation_and_its_form_in_the_scale(weight: float) -> None:
    guided = ClassifierFreeGuidance(predictor, weight)(X_T, TIMESTEPS, CONDITIONS)
    torch.testing.assert_close(guided, (1 + weight) * CONDITIONAL - weight * UNCONDITIONAL)
    torch.testing.assert_close(
        guided, UNCONDITIONAL + (1 + weight) * (CONDITIONAL - UNCONDITIONAL), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize(("weight", "evaluations"), [(-1, 1), (0, 1), (0.5, 2), (4, 2)])
def test_only_the_half_that_counts_is_computed(weight: float, evaluations: int) -> None:
    counter = EvaluationCounter(predictor)
    ClassifierFreeGuidance(counter, weight)(X_T, TIMESTEPS, CONDITIONS)
    assert counter.evaluations == evaluations * len(X_T)
