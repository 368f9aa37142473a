"""CFG-Zero*, TCFG and MAMBO-G against diffusers' guiders and against what their papers claim, on exact predictions.

diffusers' guidance scale is 1 + w.
"""

from typing import Any

import numpy as np
import pytest
import torch

from lab.guidance.classifier_free import AdjustedGuidance
from lab.guidance.effective_scale import EffectiveScale
from lab.guidance.evaluation_counter import EvaluationCounter
from lab.guidance.magnitude import Magnitude, MagnitudeMethod
from lab.guidance.method import Unguided
from lab.guidance.methods import named_method
from lab.guidance.tangential import damped
from lab.guidance.zero_star import fitted
from lab.types import Conditions, Images, NoisePredictor, Timesteps
from tests.test_effective_scale import GRID, SCHEDULE, VOCABULARY, at, measured, mixture

T = 49


def halves(t: int = T) -> tuple[Images, Images]:
    x_t, timesteps, conditions = at(t)
    return mixture(x_t, timesteps, conditions), mixture(x_t, timesteps, torch.zeros_like(conditions))


def unlike(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
    """Halves that have little in common, as those of no network."""
    images = torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(5), dtype=x_t.dtype)
    return images[: len(x_t)] * torch.where(conditions.any(dim=1), 3.0, 0.5).view(-1, 1, 1, 1)


GUIDERS: dict[str, tuple[str, dict[str, Any], Any]] = {
    "zero_star": (
        "ClassifierFreeZeroStarGuidance",
        {"zero_init_steps": 0},
        lambda network, w: AdjustedGuidance(network, w, fitted),
    ),
    "tangential": ("TangentialClassifierFreeGuidance", {}, lambda network, w: AdjustedGuidance(network, w, damped)),
    "magnitude": ("MagnitudeAwareGuidance", {"alpha": 8.0}, lambda network, w: Magnitude(network, w, 8.0)),
}


@pytest.mark.parametrize("network", [mixture, unlike], ids=["exact", "unlike"])
@pytest.mark.parametrize("weight", [-1.0, -0.5, 0.7, 4.0])
@pytest.mark.parametrize("name", GUIDERS)
def test_a_method_agrees_with_diffusers_guider(name: str, weight: float, network: NoisePredictor) -> None:
    from diffusers import guiders

    guider_name, settings, method = GUIDERS[name]
    x_t, timesteps, conditions = at(T)

    def in_float32(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        return network(x_t, timesteps, conditions).float()

    both = in_float32(torch.cat((x_t, x_t)), timesteps.repeat(2), torch.cat((conditions, torch.zeros(3, 3))))
    guider = getattr(guiders, guider_name)(guidance_scale=1 + weight, **settings)
    guider.set_state(step=0, num_inference_steps=10, timestep=timesteps[:1])
    # As rows of three dimensions: MagnitudeAwareGuidance takes a norm that torch refuses for four.
    flat = both.flatten(2)
    expected = guider.forward(pred_cond=flat[:3], pred_uncond=flat[3:]).pred.view_as(x_t)
    found = method(in_float32, weight)(x_t, timesteps, conditions)
    assert not torch.allclose(found, (1 + weight) * both[:3] - weight * both[3:], atol=1e-4)
    # Both compute in float32, whose rounding goes with the largest values.
    torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-5)


@pytest.mark.parametrize(("text", "weight", "rows"), [
    ("zero_star", 2.0, 2), ("zero_star", 0.0, 1), ("zero_star", -1.0, 2),
    ("tangential", 2.0, 2), ("tangential", 0.0, 1), ("tangential", -1.0, 2),
    ("magnitude", 2.0, 2), ("magnitude", 0.0, 1), ("magnitude:damping=0", -1.0, 1),
])  # fmt: skip
def test_a_step_costs_no_more_than_plain_guidance(text: str, weight: float, rows: int) -> None:
    counter = EvaluationCounter(mixture)
    named_method(text).method.guide(Unguided(counter, mixture, SCHEDULE, GRID, VOCABULARY), weight)(*at(T))
    assert counter.evaluations == rows * 3


def test_the_optimized_scale_is_the_best_multiple_of_the_unconditional_half() -> None:
    conditional, unconditional = halves()
    # At w = -1 the prediction is the scaled unconditional half.
    multiple = AdjustedGuidance(mixture, -1.0, fitted)(*at(T))
    error = (conditional - multiple).flatten(1).norm(dim=1)
    for factor in np.linspace(0.5, 1.5, 101):
        assert (error <= (conditional - factor * unconditional).flatten(1).norm(dim=1) + 1e-12).all()

    # A network whose unconditional half is wrong by a factor guides as the right one.
    def wrong(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        factor = torch.where(conditions.any(dim=1), 1.0, 0.6).view(-1, 1, 1, 1)
        return factor * mixture(x_t, timesteps, conditions)

    torch.testing.assert_close(*(AdjustedGuidance(network, 3.0, fitted)(*at(T)) for network in (wrong, mixture)))


def test_damping_removes_the_second_singular_vector_from_the_unconditional_half_alone() -> None:
    conditional, unconditional = halves()
    found = damped(conditional, unconditional)
    for image in range(3):
        pair = torch.stack((conditional[image].flatten(), unconditional[image].flatten())).numpy()
        _, _, vectors = np.linalg.svd(pair, full_matrices=False)
        expected = (pair[1] @ vectors[0]) * vectors[0]
        np.testing.assert_allclose(found[image].flatten().numpy(), expected, rtol=1e-9, atol=1e-9)


def test_guidance_is_damped_by_the_relative_difference_of_the_halves() -> None:
    conditional, unconditional = halves()
    ratio = (conditional - unconditional).flatten(1).norm(dim=1) / unconditional.flatten(1).norm(dim=1)
    meter = EffectiveScale()
    meter.measured(Magnitude(meter.observed(mixture), 3.0, 8.0))(*at(T))
    assert meter.taken()[:, 0].tolist() == pytest.approx((1 + 3 * torch.exp(-8 * ratio)).tolist(), rel=1e-9)
    assert 0.01 < float(ratio.min()) < float(ratio.max())


@pytest.mark.parametrize("name", GUIDERS)
def test_a_method_has_an_effective_scale(name: str) -> None:
    method = named_method(name).method
    scale, _ = measured(method, 3.0)
    assert scale is not None
    if isinstance(method, MagnitudeMethod):
        assert 1 < scale < 4
