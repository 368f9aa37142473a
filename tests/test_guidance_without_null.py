"""Independent-condition and time-step guidance against their paper's algorithms, equations and two Gaussians."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from lab.configuration.diffusion import DDIMConfig
from lab.configuration.networks import BasicUNetConfig, ContextUnetConfig, DenoiserConfig
from lab.configuration.training import TrainingConfig
from lab.diffusion.noise_source import NoiseSource, StepRandomness
from lab.diffusion.objectives import AsNoisePredictor
from lab.diffusion.samplers import sample
from lab.guidance.classifier_free import ClassifierFreeGuidance
from lab.guidance.effective_scale import EffectiveScale, effective_scale
from lab.guidance.evaluation_counter import EvaluationCounter
from lab.guidance.independent import IndependentCondition, IndependentMethod
from lab.guidance.method import Unguided
from lab.guidance.methods import named_method
from lab.guidance.timestep import TimestepMethod
from lab.sweep.fit import null_condition_problem
from lab.types import Conditions, Images, NoisePredictor, Timesteps
from tests.command import TINY, new_root, run, table
from tests.test_effective_scale import (
    GRID,
    MEANS,
    ONE_LABEL,
    SCHEDULE,
    SHAPE,
    STEPS,
    TWO_LABELS,
    VARIANCE,
    VOCABULARY,
    at,
    mixture,
)  # fmt: skip

T = 49
Seeds = Sequence[tuple[int, ...]]
SEEDS = [(0, i) for i in range(3)]


def independent(weight: float, network: NoisePredictor = mixture, seeds: Seeds = SEEDS) -> NoisePredictor:
    inputs = Unguided(network, network, SCHEDULE, GRID, VOCABULARY, StepRandomness(seeds))
    return IndependentMethod().guide(inputs, weight)


def drawn(t: int, conditions: Conditions = ONE_LABEL, seeds: Seeds = SEEDS) -> Conditions:
    """The conditions that stand for the null condition at a timestep."""
    seen: list[Conditions] = []

    def noting(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        seen.append(conditions)
        return x_t

    x_t = torch.zeros(len(conditions), *SHAPE)
    independent(1.0, noting, seeds)(x_t, torch.full((len(conditions),), t), conditions)
    return seen[0][len(conditions) :]


@pytest.mark.parametrize("weight", [-1.0, -0.5, 0.7, 4.0])
def test_it_is_the_paper_s_algorithm_with_the_conditions_it_draws(weight: float) -> None:
    x_t, timesteps, conditions = at(T)
    # Algorithm 1 in clean images, whose scale is 1 + w: D(y') + scale (D(y) - D(y')).
    alpha, sigma = (float(amounts[T]) for amounts in (SCHEDULE.alpha, SCHEDULE.sigma))
    clean = [(x_t - sigma * mixture(x_t, timesteps, each)) / alpha for each in (conditions, drawn(T))]
    expected = clean[1] + (1 + weight) * (clean[0] - clean[1])
    found = (x_t - sigma * independent(weight)(x_t, timesteps, conditions)) / alpha
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)


def test_every_label_set_of_the_same_size_is_drawn_equally_often() -> None:
    several = [(0, i) for i in range(3000)]
    ones = drawn(T, torch.eye(3)[:1].expand(3000, 3), several)
    twos = drawn(T, torch.tensor([[1.0, 1, 0]]).expand(3000, 3), several)
    for rows, size in ((ones, 1), (twos, 2)):
        assert (rows.sum(dim=1) == size).all()
        counts = Counter(map(tuple, rows.tolist()))
        # Five standard deviations of a binomial count of 3,000 at 1/3.
        assert len(counts) == 3
        assert all(abs(count - 1000) < 5 * np.sqrt(3000 * 2 / 9) for count in counts.values())
    assert not drawn(T, torch.zeros(3, 3)).any()


def test_an_image_draws_the_same_in_every_batch_and_another_at_every_step() -> None:
    images = [(0, i) for i in range(40)]
    conditions = torch.eye(3)[:1].expand(40, 3)
    together = {t: drawn(t, conditions, images) for t in (T, T + 1)}
    parts = [drawn(T, conditions[part], images[part]) for part in (slice(0, 7), slice(7, 40))]
    assert torch.equal(torch.cat(parts), together[T])
    assert not torch.equal(together[T], together[T + 1])
    # A second call at the same timestep, as of a higher-order sampler, draws the same.
    assert torch.equal(drawn(T, conditions, images), together[T])


def two_gaussians(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
    """The exact prediction for two classes of equal shares, which are a and b of the mixture."""
    known = torch.where(conditions.any(dim=1, keepdim=True), conditions, 1.0)
    return mixture(x_t, timesteps, torch.nn.functional.pad(known, (0, 1)))


def test_the_direction_is_that_of_the_two_gaussians_in_the_paper() -> None:
    # Equations 23 and 24 of the paper's appendix: the direction is 0 if the image's own class is drawn and the
    # difference of the means if the other is, and plain guidance has a share of that difference.
    images = 2000
    one = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(3)).double()
    x_t, timesteps, conditions = one.expand(images, -1, -1, -1), torch.full((images,), T), torch.eye(2)[:1]
    alpha, sigma = (float(amounts[T]) for amounts in (SCHEDULE.alpha, SCHEDULE.sigma))
    apart = sigma * alpha * (MEANS[1] - MEANS[0]) / (alpha**2 * VARIANCE + sigma**2)
    conditional = two_gaussians(one, timesteps[:1], conditions)
    guided = independent(1.0, two_gaussians, [(0, i) for i in range(images)])
    moved = guided(x_t, timesteps, conditions.expand(images, -1)) - conditional
    shares = (moved * apart).sum(dim=(1, 2, 3)) / (apart**2).sum()
    torch.testing.assert_close(moved, shares[:, None, None, None] * apart, atol=1e-9, rtol=0)
    torch.testing.assert_close(shares, shares.round(), atol=1e-6, rtol=0)
    # Five standard deviations of the mean of 2,000 draws at 1/2.
    assert float(shares.mean()) == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(images))
    plain = ClassifierFreeGuidance(two_gaussians, 1.0)(one, timesteps[:1], conditions) - conditional
    share = float((plain * apart).sum() / (apart**2).sum())
    torch.testing.assert_close(plain, share * apart[None])
    assert 0 < share < 1


def own_share(images: Images, conditions: Conditions) -> torch.Tensor:
    """The probability of each image's own class given its finished image."""
    logits = -((images.double()[:, None] - MEANS) ** 2).sum(dim=(2, 3, 4)) / (2 * VARIANCE)
    return (logits.softmax(dim=1) * conditions).sum(dim=1)


def test_it_guides_to_the_class_without_ever_asking_for_the_null_condition() -> None:
    conditions = torch.eye(3).repeat(100, 1)
    seeds = [(0, i) for i in range(300)]
    counter = EvaluationCounter(mixture)

    def without_null(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        assert (conditions.count_nonzero(dim=1) == 1).all()
        return counter(x_t, timesteps, conditions)

    shares = []
    for weight, evaluations in ((0.0, 1), (2.0, 2)):
        counter.evaluations = 0
        guided = independent(weight, without_null, seeds)
        sampler = DDIMConfig(sampling_steps=STEPS, clamp=False)
        images = sample(guided, SCHEDULE, sampler, conditions, NoiseSource(seeds, SHAPE))
        shares.append(own_share(images, conditions))
        assert counter.evaluations == evaluations * STEPS * 300
    # Paired by noise: ten standard errors of the mean difference.
    difference = shares[1] - shares[0]
    assert float(difference.mean()) > 10 * float(difference.std()) / np.sqrt(300)


def test_its_effective_scale_is_undefined_unless_it_is_conditional() -> None:
    for weight, expected in ((0.0, 1.0), (2.0, None)):
        meter = EffectiveScale()
        predictor = IndependentCondition(meter.observed(mixture), weight, StepRandomness(SEEDS))
        meter.measured(predictor)(at(T)[0], at(T)[1], TWO_LABELS)
        assert effective_scale(meter.taken()) == expected


def wrong_time(
    method: TimestepMethod, weight: float, network: NoisePredictor, images: int = 3, prediction: str = "noise"
) -> NoisePredictor:
    randomness = StepRandomness([(0, i) for i in range(images)])
    return method.guide(Unguided(network, network, SCHEDULE, GRID, VOCABULARY, randomness, prediction), weight)


def timesteps_given(method: TimestepMethod, t: int, images: int) -> np.ndarray:
    """The wrong timesteps of many images."""
    seen: list[Timesteps] = []

    def noting(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        seen.append(timesteps)
        return x_t

    x_t, conditions = torch.zeros(images, *SHAPE), torch.zeros(images, 3)
    wrong_time(method, 1.0, noting, images)(x_t, torch.full((images,), t), conditions)
    return seen[0][images:].numpy()


def output(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
    """What a network may put out, noise, clean image or v, changed by each of its inputs."""
    time = timesteps.view(-1, 1, 1, 1) / 30
    return torch.sin(x_t + time) * (1 + (conditions @ torch.arange(3.0)).view(-1, 1, 1, 1))


@pytest.mark.parametrize("prediction", ["noise", "x_0", "v"])
@pytest.mark.parametrize("weight", [-1.0, 0.7, 4.0])
def test_it_is_the_paper_s_equation_in_clean_images_of_every_kind_of_network(prediction: str, weight: float) -> None:
    x_t, timesteps, conditions = at(T)
    alpha, sigma = (float(amounts[T]) for amounts in (SCHEDULE.alpha, SCHEDULE.sigma))
    clean: Callable[[Images], Images] = {
        "noise": lambda predicted: (x_t - sigma * predicted) / alpha,
        "x_0": lambda predicted: predicted,
        "v": lambda predicted: alpha * x_t - sigma * predicted,
    }[prediction]
    method = TimestepMethod(spread=0.3)
    given = torch.from_numpy(timesteps_given(method, T, 3))
    # Equation 8: the network is given another timestep, and the noise level of its input stays the same.
    wrong, right = clean(output(x_t, given, conditions)), clean(output(x_t, timesteps, conditions))
    expected = wrong + (1 + weight) * (right - wrong)
    guided = wrong_time(method, weight, AsNoisePredictor(output, prediction, SCHEDULE), prediction=prediction)
    found = (x_t - sigma * guided(x_t, timesteps, conditions)) / alpha
    assert not torch.allclose(wrong, right, atol=0.1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("power", "expected"), [(0.0, 0.1 * 100), (1.0, 0.1 * 50), (2.0, 0.1 * 25)])
def test_wrong_timesteps_are_normal_around_the_right_one(power: float, expected: float) -> None:
    given = timesteps_given(TimestepMethod(0.1, power), 50, 3000)
    # Four standard errors of the mean and of the standard deviation; rounding adds a variance of 1 / 12.
    spread = np.sqrt(expected**2 + 1 / 12)
    assert given.mean() == pytest.approx(50, abs=4 * spread / np.sqrt(3000))
    assert given.std() == pytest.approx(spread, abs=4 * spread / np.sqrt(6000))
    assert scipy.stats.kurtosis(given) == pytest.approx(0, abs=0.4)


def test_wrong_timesteps_are_timesteps() -> None:
    given = timesteps_given(TimestepMethod(1.0, 0.0), 50, 3000)
    assert (given.min(), given.max()) == (0, 99)


def test_to_first_order_it_adds_noise_along_the_derivative_by_t() -> None:
    # Equation 9: (1 - scale) dD/dt times the normal change of t.
    x_t, timesteps, conditions = at(T)
    method, weight = TimestepMethod(spread=0.02), 2.0
    change = torch.from_numpy(timesteps_given(method, T, 3) - T).view(-1, 1, 1, 1)
    assert change.any()
    slope = (mixture(x_t, timesteps + 2, conditions) - mixture(x_t, timesteps - 2, conditions)) / 4
    moved = wrong_time(method, weight, mixture)(x_t, timesteps, conditions) - mixture(x_t, timesteps, conditions)
    torch.testing.assert_close(moved, -weight * slope * change, atol=0.1 * float(moved.abs().max()), rtol=0)


def test_time_step_guidance_needs_no_condition_and_costs_as_much_as_plain_guidance() -> None:
    x_t, timesteps, _ = at(T)
    for weight, evaluations in ((0.0, 3), (2.0, 6), (-1.0, 6)):
        counter = EvaluationCounter(mixture)
        meter = EffectiveScale()
        guided = meter.measured(wrong_time(TimestepMethod(), weight, meter.observed(counter)))
        unconditional = guided(x_t, timesteps, torch.zeros(3, 3))
        assert counter.evaluations == evaluations
        assert torch.equal(unconditional, mixture(x_t, timesteps, torch.zeros(3, 3))) == (weight == 0)


def problem(
    method: str,
    weights: Sequence[float],
    denoiser: DenoiserConfig | None = None,
    label_sets: Sequence[tuple[str, ...]] = (),
    **training: Any,
) -> str:
    settings = asdict(TrainingConfig()) | training
    return null_condition_problem(
        denoiser or ContextUnetConfig(), settings, named_method(method), weights, DDIMConfig(sampling_steps=STEPS),
        SCHEDULE, VOCABULARY, label_sets or [VOCABULARY.names[:1]],
    )  # fmt: skip


def test_a_network_that_has_not_seen_the_null_condition_is_guided_without_it_or_with_a_warning() -> None:
    weights = (-1.0, 0.0, 1.0, 2.0)
    told = problem("plain", weights, context_dropout=0.0)
    assert "at w = -1, w = 1, w = 2 it gives the network the null condition" in told
    assert "independent and timestep" in told
    # Methods that guide at w = 0 need it there too.
    assert "at w = 0 it" in problem("feedback", (0.0,), context_dropout=0.0)
    assert "at w = 0 it" in problem("schedule:shape=exponential", (0.0,), context_dropout=0.0)
    for method in ("independent", "timestep", "auto"):
        assert not problem(method, weights, context_dropout=0.0)
    assert not problem("plain", (0.0,), context_dropout=0.0)
    assert not problem("plain", weights, context_dropout=0.1)
    # Composed guidance of several classes needs it at every w.
    assert not problem("composed", (0.0,), label_sets=[VOCABULARY.names[:1]], context_dropout=0.0)
    assert "at w = 0 it" in problem("composed", (0.0,), label_sets=[VOCABULARY.names[:2]], context_dropout=0.0)
    # What an earlier training has shown it is not known, and a network without the condition has no null condition.
    assert not problem("plain", weights, context_dropout=0.0, start_from=Path("earlier.pt"))
    assert not problem("plain", weights, BasicUNetConfig(), context_dropout=0.0)


@pytest.mark.long
def test_without_context_dropout_a_sweep_warns_of_plain_guidance_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = new_root(tmp_path)
    without = ("--training.context-dropout", "0", "--guidance.method", "plain", "independent", "timestep")
    assert run(root, "digits", *without, *TINY) == 0
    assert capfd.readouterr().err.count("it gives the network the null condition") == 1
    sweep = table(root)
    warned = sweep["guidance_warning"].fillna("").str.contains("null condition")
    assert warned.equals((sweep["guidance_method"] == "plain") & (sweep["guidance_weight"] != 0))
    assert set(sweep["guidance_method"]) == {"plain", "independent", "timestep"}
    # At w = 0 the methods are the same, at half the cost.
    for _, rows in sweep[sweep["guidance_weight"] == 0].groupby(["checkpoint", "label_set"]):
        assert rows["accuracy"].nunique() == 1
    evaluations = sweep["network_evaluations"] / sweep["sampling_steps"]
    unconditional = (sweep["guidance_method"] == "plain") & (sweep["guidance_weight"] == -1)
    assert evaluations.tolist() == (2.0 - (sweep["guidance_weight"].eq(0) | unconditional)).tolist()
