"""The effective guidance scale: exact on a Gaussian mixture, undefined where it has no meaning, and free."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lab.configuration.diffusion import CosineScheduleConfig, DDIMConfig, DPMSolverConfig
from lab.data.labels import ClassVocabulary
from lab.diffusion.denoising import timestep_grid
from lab.diffusion.noise_source import NoiseSource
from lab.diffusion.samplers import sample
from lab.diffusion.schedules import noise_schedule
from lab.guidance.autoguidance import AutoMethod
from lab.guidance.classifier_free import PlainMethod
from lab.guidance.composed import ComposedMethod
from lab.guidance.effective_scale import EffectiveScale, effective_scale
from lab.guidance.evaluation_counter import EvaluationCounter
from lab.guidance.limited_interval import IntervalMethod
from lab.guidance.method import GuidanceMethod, Unguided
from lab.guidance.plus_plus import PlusPlusMethod
from lab.guidance.projected import ProjectedMethod
from lab.guidance.rescale import RescaleMethod
from lab.guidance.weight_schedule import ScheduleMethod
from lab.sweep.cells import load_result
from lab.types import Conditions, Images, NoisePredictor, Timesteps
from tests.test_sweep import cells, folder, swept

__all__ = ["folder"]  # a fixture

SCHEDULE = noise_schedule(CosineScheduleConfig(timesteps=100))
STEPS = 10
GRID = timestep_grid(100, STEPS)
VOCABULARY = ClassVocabulary(("a", "b", "c"))
SHAPE = (1, 4, 4)
MEANS = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(1)).double() / 4
VARIANCE = 1.0
ONE_LABEL = torch.eye(3)
TWO_LABELS = torch.tensor([[1.0, 0, 0], [0, 1, 1], [1, 1, 0]])


def mixture(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
    """The exact noise prediction for a mixture of Gaussians, in float64: of the condition's members, or of all.

    With x_0 from N(mean_k, v I), E[noise | x_t, k] = sigma (x_t - alpha mean_k) / (alpha^2 v + sigma^2), and the
    mixture's is the mean of these weighted by the probability of k given x_t.
    """
    x_t = x_t.double()
    alpha, sigma = SCHEDULE.amounts(timesteps, x_t)
    spread = alpha**2 * VARIANCE + sigma**2
    apart = x_t[:, None] - alpha[:, None] * MEANS
    logits = -(apart**2).sum(dim=(2, 3, 4)) / (2 * spread[:, 0, 0])
    members = torch.where(conditions.any(dim=1, keepdim=True), conditions, torch.ones_like(conditions))
    share = (logits + members.log()).softmax(dim=1)[:, :, None, None, None]
    return sigma * (share * apart).sum(dim=1) / spread


def weak(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
    return 0.9 * mixture(x_t, timesteps, conditions)


def measured(
    method: GuidanceMethod,
    weight: float,
    conditions: Conditions = ONE_LABEL,
    network: NoisePredictor = mixture,
    batch_size: int = 3,
    sampler: Any = None,
    guide: Any = None,
) -> tuple[float | None, torch.Tensor]:
    """Sample and return the effective scale, and each image's sums."""
    meter = EffectiveScale()
    inputs = Unguided(meter.observed(network), meter.foreign(weak), SCHEDULE, GRID, VOCABULARY)
    predictor = meter.measured((guide or method.guide)(inputs, weight))
    sums = []
    for begin in range(0, len(conditions), batch_size):
        part = conditions[begin : begin + batch_size]
        noise = NoiseSource([(0, begin + i) for i in range(len(part))], SHAPE)
        sample(predictor, SCHEDULE, sampler or DDIMConfig(sampling_steps=STEPS, clamp=False), part, noise)
        sums.append(meter.taken())
    together = torch.cat(sums)
    return effective_scale(together), together


@pytest.mark.parametrize("weight", [-1.0, -0.5, 0.0, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("sampler", [DDIMConfig(sampling_steps=STEPS), DPMSolverConfig(sampling_steps=STEPS)])
def test_plain_guidance_has_exactly_its_nominal_scale(weight: float, sampler: Any) -> None:
    scale, sums = measured(PlainMethod(), weight, sampler=sampler)
    assert scale == pytest.approx(1 + weight, abs=1e-9)
    assert sums[:, 1].tolist() == [STEPS] * 3


@pytest.mark.parametrize("weight", [-1.0, 0.7, 4.0])
def test_outside_a_limited_interval_a_step_counts_as_conditional(weight: float) -> None:
    method = IntervalMethod(low=0.3, high=5.0)
    inside = sum(0.3 < float(SCHEDULE.sigma[t] / SCHEDULE.alpha[t]) <= 5 for t in GRID)
    assert 0 < inside < STEPS
    assert measured(method, weight)[0] == pytest.approx(1 + weight * inside / STEPS, abs=1e-9)


def test_a_weight_that_changes_counts_with_its_mean_over_the_steps() -> None:
    weights = [2 * 3.0 * (1 - t / 99) for t in GRID]
    assert measured(ScheduleMethod("linear"), 3.0)[0] == pytest.approx(1 + sum(weights) / STEPS, abs=1e-6)


def test_cfg_plus_plus_counts_with_the_scale_of_each_step() -> None:
    # The paper's step with scale 0.6, solved for plain guidance's scale by hand: alpha_next eps_guided / alpha +
    # sigma_next eps_u on one side, DDIM with one prediction on the other.
    points = [(float(SCHEDULE.alpha[t]), float(SCHEDULE.sigma[t])) for t in GRID] + [(1.0, 0.0)]
    scales = []
    for (alpha, sigma), (next_alpha, next_sigma) in zip(points, points[1:], strict=False):
        scales.append(0.6 * (next_alpha * sigma / alpha) / (next_alpha * sigma / alpha - next_sigma))
    assert measured(PlusPlusMethod(), -0.4)[0] == pytest.approx(sum(scales) / STEPS, rel=1e-6)


def at(t: int) -> tuple[Images, Timesteps, Conditions]:
    x_t = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(2)).double()
    return x_t, torch.full((3,), t), ONE_LABEL


def one_step(method: GuidanceMethod, weight: float, t: int) -> list[float]:
    meter = EffectiveScale()
    inputs = Unguided(meter.observed(mixture), meter.foreign(weak), SCHEDULE, GRID, VOCABULARY)
    meter.measured(method.guide(inputs, weight))(*at(t))
    return meter.taken()[:, 0].tolist()


def test_projected_guidance_loses_the_component_along_the_conditional_image() -> None:
    x_t, timesteps, conditions = at(49)
    conditional, unconditional = mixture(x_t, timesteps, conditions), mixture(x_t, timesteps, torch.zeros(3, 3))
    alpha, sigma = SCHEDULE.amounts(timesteps, x_t)
    clean = ((x_t - sigma * conditional) / alpha).flatten(1)
    cosine = torch.cosine_similarity(clean, (unconditional - conditional).flatten(1))
    expected = 1 + 2 * (1 - cosine**2)
    assert one_step(ProjectedMethod(), 2.0, 49) == pytest.approx(expected.tolist(), rel=1e-6)


def test_rescaling_counts_with_what_it_leaves() -> None:
    x_t, timesteps, conditions = at(49)
    conditional, unconditional = mixture(x_t, timesteps, conditions), mixture(x_t, timesteps, torch.zeros(3, 3))
    guided = 3 * conditional - 2 * unconditional
    guided = guided * (conditional.std(dim=(1, 2, 3)) / guided.std(dim=(1, 2, 3))).view(-1, 1, 1, 1)
    difference = conditional - unconditional
    expected = ((guided - unconditional) * difference).sum(dim=(1, 2, 3)) / (difference**2).sum(dim=(1, 2, 3))
    assert one_step(RescaleMethod(1.0), 2.0, 49) == pytest.approx(expected.tolist(), rel=1e-6)


def test_another_network_has_no_direction_of_plain_guidance() -> None:
    assert measured(AutoMethod(), 2.0)[0] is None
    assert measured(AutoMethod(), 0.0)[0] == 1


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_composed_guidance_has_a_scale_for_one_class_alone(batch_size: int) -> None:
    assert measured(ComposedMethod(), 2.0, batch_size=batch_size)[0] == pytest.approx(3, abs=1e-9)
    # The first image has one class; whether it shares a batch with the others changes nothing for the cell.
    assert measured(ComposedMethod(), 2.0, TWO_LABELS, batch_size=batch_size)[0] is None
    assert measured(ComposedMethod(avoid=("c",)), 2.0, batch_size=batch_size)[0] is None


def test_without_a_difference_there_is_no_scale() -> None:
    def blind(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        return mixture(x_t, timesteps, torch.zeros_like(conditions))

    scale, sums = measured(PlainMethod(), 2.0, network=blind)
    assert scale is None
    assert not sums.any()


def test_a_step_without_a_difference_does_not_count() -> None:
    def late(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Blind above t = 50, but for a difference that float32 would not resolve."""
        seen = mixture(x_t, timesteps, conditions)
        blind = mixture(x_t, timesteps, torch.zeros_like(conditions))
        return torch.where(timesteps.view(-1, 1, 1, 1) > 50, blind + 1e-6 * (seen - blind), seen)

    scale, sums = measured(PlainMethod(), 2.0, network=late)
    assert scale == pytest.approx(3, abs=1e-9)
    assert sums[:, 1].tolist() == [sum(t <= 50 for t in GRID)] * 3


def test_a_changed_half_alone_has_no_scale() -> None:
    def louder(unguided: Unguided, weight: float) -> NoisePredictor:
        return lambda x_t, timesteps, conditions: 1.1 * unguided.predictor(x_t, timesteps, conditions)

    def perturbed(unguided: Unguided, weight: float) -> NoisePredictor:
        """Guidance away from the conditional prediction at another timestep."""

        def guided(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
            conditional = unguided.predictor(x_t, timesteps, conditions)
            away = unguided.predictor(x_t, (timesteps + 5).clamp(max=99), conditions)
            return (1 + weight) * conditional - weight * away

        return guided

    assert measured(PlainMethod(), 0.0, guide=louder)[0] is None
    assert measured(PlainMethod(), 2.0, guide=perturbed)[0] is None


@pytest.mark.parametrize("method", [PlainMethod(), IntervalMethod(), ProjectedMethod(momentum=0.5), ComposedMethod()])
def test_measuring_evaluates_and_changes_nothing(method: GuidanceMethod) -> None:
    alone = EvaluationCounter(mixture)
    sampler = DDIMConfig(sampling_steps=STEPS)
    noise = [NoiseSource([(0, i) for i in range(3)], SHAPE) for _ in range(2)]
    unmeasured = method.guide(Unguided(alone, weak, SCHEDULE, GRID, VOCABULARY), 2.0)
    expected = sample(unmeasured, SCHEDULE, sampler, ONE_LABEL, noise[0])
    meter, counter = EffectiveScale(), EvaluationCounter(mixture)
    inputs = Unguided(meter.observed(counter), meter.foreign(weak), SCHEDULE, GRID, VOCABULARY)
    found = sample(meter.measured(method.guide(inputs, 2.0)), SCHEDULE, sampler, ONE_LABEL, noise[1])
    assert torch.equal(found, expected)
    assert counter.evaluations == alone.evaluations


@pytest.mark.parametrize("method", [PlainMethod(), ProjectedMethod(), RescaleMethod(), IntervalMethod()])
def test_an_images_projection_does_not_depend_on_its_batch(method: GuidanceMethod) -> None:
    conditions = torch.eye(3).repeat(2, 1)
    whole, alone = (measured(method, 2.0, conditions, batch_size=size)[1] for size in (6, 1))
    torch.testing.assert_close(whole, alone, rtol=1e-9, atol=1e-9)


def test_a_sweep_keeps_the_scale_of_each_cell(folder: Path) -> None:
    whole = swept(folder, cells(), batch_size=4)
    for result in whole:
        assert result.effective_guidance_scale == pytest.approx(1 + result.cell.guidance_weight, abs=1e-3)
    (folder / "cells" / f"{whole[2].cell.key}.npz").unlink()
    again = swept(folder, cells(), batch_size=4)
    assert [result.effective_guidance_scale for result in again] == [
        result.effective_guidance_scale for result in whole
    ]


def test_a_cell_from_before_is_read_without_a_scale(folder: Path) -> None:
    (result,) = swept(folder, cells()[:1])
    path = folder / "cells" / f"{result.cell.key}.npz"
    with np.load(path) as arrays:
        contents = dict(arrays)
    record = json.loads(str(contents["told"]))
    del record["effective_guidance_scale"]
    np.savez_compressed(path, **(contents | {"told": np.array(json.dumps(record))}))
    found = load_result(folder / "cells", result.cell)
    assert found is not None
    assert found.effective_guidance_scale is None
    assert torch.equal(found.pixels, result.pixels)
