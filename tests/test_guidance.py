"""Methods of guidance against their equations, and each at its neutral setting against plain guidance."""

import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lab.configuration.diffusion import CosineScheduleConfig, CyclicCosineScheduleConfig, DDIMConfig, DPMSolverConfig
from lab.configuration.guidance import GuidanceConfig
from lab.data.labels import ClassVocabulary
from lab.diffusion.denoising import timestep_grid
from lab.diffusion.noise_source import NoiseSource, StepRandomness
from lab.diffusion.samplers import sample
from lab.diffusion.schedules import NoiseSchedule, noise_schedule
from lab.errors import LabError
from lab.guidance.annealed import AnnealedMethod
from lab.guidance.classifier import ClassifierMethod
from lab.guidance.classifier_free import ClassifierFreeGuidance, PlainMethod
from lab.guidance.composed import Composed, ComposedMethod
from lab.guidance.dynamic import DynamicMethod
from lab.guidance.evaluation_counter import EvaluationCounter
from lab.guidance.feedback import FeedbackMethod
from lab.guidance.limited_interval import IntervalMethod, LimitedInterval
from lab.guidance.magnitude import MagnitudeMethod
from lab.guidance.method import GuidanceMethod, Unguided
from lab.guidance.methods import METHODS, NamedMethod, named_method, named_methods
from lab.guidance.plus_plus import PlusPlus
from lab.guidance.projected import Projected, ProjectedMethod
from lab.guidance.rescale import Rescale, RescaleMethod
from lab.guidance.weight_schedule import ScheduleMethod
from lab.types import ClassLogits, Conditions, Images, Timesteps


def predictor(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
    """A noise predictor that any of its inputs changes."""
    asked = (conditions @ torch.arange(1.0, conditions.shape[1] + 1)).view(-1, 1, 1, 1)
    return torch.sin(3 * x_t + timesteps.view(-1, 1, 1, 1)) * (1 + asked / 4) + torch.sin(asked)


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


SCHEDULE = noise_schedule(CosineScheduleConfig(timesteps=100))
EXTRA_BETA = noise_schedule(CyclicCosineScheduleConfig(timesteps=100, extra_beta=True))
GRID = timestep_grid(100, 10)
VOCABULARY = ClassVocabulary(("a", "b", "c"))
NEUTRAL: dict[str, GuidanceMethod] = {
    "interval": IntervalMethod(low=0.0, high=float("inf")),
    "schedule": ScheduleMethod(shape="constant", smallest=0.0),
    "rescale": RescaleMethod(phi=0.0),
    "projected": ProjectedMethod(eta=1.0, momentum=0.0, largest_norm=0.0),
    "magnitude": MagnitudeMethod(damping=0.0),
    "feedback": FeedbackMethod(pi=1.0),
    "annealed": AnnealedMethod(clean=1.0),
    "composed": ComposedMethod(avoid=(), avoided_scale=-1.0),
    "classifier": ClassifierMethod(scale=0.0),
    "dynamic": DynamicMethod(candidates=1),
}
"""Settings at which a method is plain guidance at every weight."""
NEUTRAL_WEIGHT = {
    "plus_plus": -1.0,
    "auto": 0.0,
    "zero_star": 0.0,
    "tangential": 0.0,
    "independent": 0.0,
    "timestep": 0.0,
    "distilled": 0.0,
}
"""The weight at which the others are."""


def weak(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
    return 0.9 * predictor(x_t, timesteps, conditions)


def classifier(images: Images) -> ClassLogits:
    return torch.stack([images.mean(dim=(1, 2, 3)), images.std(dim=(1, 2, 3)), images.amax(dim=(1, 2, 3))], dim=1)


def guided(method: GuidanceMethod, weight: float, inner: Any = predictor, images: int = 2) -> Any:
    randomness = StepRandomness([(0, i) for i in range(images)])
    classifiers = {"guide": classifier}
    unguided = Unguided(inner, weak, SCHEDULE, GRID, VOCABULARY, randomness, classifiers=classifiers)
    return method.guide(unguided, weight)


def images_of(method: GuidanceMethod, weight: float, one_label: bool = True) -> Images:
    """Sample with a method, from the same noise with every method."""
    conditions = torch.eye(3) if one_label else torch.tensor([[1.0, 1, 0], [0, 1, 1], [1, 1, 1]])
    noise = NoiseSource([(0, i) for i in range(3)], (3, 4, 4))
    sampler = DDIMConfig(sampling_steps=10, clamp=False)
    return sample(guided(method, weight, images=3), SCHEDULE, sampler, conditions, noise)


def test_every_method_has_a_neutral_setting_or_weight() -> None:
    assert set(METHODS) == {"plain", *NEUTRAL, *NEUTRAL_WEIGHT}
    for name, neutral in NEUTRAL.items():
        assert type(neutral) is METHODS[name]


@pytest.mark.parametrize("name", NEUTRAL)
@pytest.mark.parametrize("weight", [-1.0, 0.0, 0.7, 4.0])
def test_at_its_neutral_setting_a_method_is_plain_guidance_to_the_bit(name: str, weight: float) -> None:
    assert torch.equal(images_of(NEUTRAL[name], weight), images_of(PlainMethod(), weight))


@pytest.mark.parametrize(("name", "weight"), NEUTRAL_WEIGHT.items())
def test_at_its_neutral_weight_a_method_is_plain_guidance_to_the_bit(name: str, weight: float) -> None:
    assert torch.equal(images_of(METHODS[name](), weight), images_of(PlainMethod(), weight))


@pytest.mark.parametrize("name", [name for name in METHODS if name != "plain"])
def test_away_from_it_a_method_is_something_else(name: str) -> None:
    weight = -0.4 if name == "plus_plus" else 2.0
    assert not torch.allclose(images_of(METHODS[name](), weight, False), images_of(PlainMethod(), weight, False))


def at(t: int) -> tuple[Images, Timesteps, Conditions]:
    return X_T, torch.tensor([t, t]), CONDITIONS


def halves(t: int) -> tuple[Images, Images]:
    x_t, timesteps, conditions = at(t)
    return predictor(x_t, timesteps, conditions), predictor(x_t, timesteps, torch.zeros_like(conditions))


def test_outside_the_interval_only_the_conditional_half_is_computed() -> None:
    sigma = ((1 - SCHEDULE.alpha_bar) / SCHEDULE.alpha_bar).sqrt()
    counter = EvaluationCounter(predictor)
    method = LimitedInterval(counter, 3.0, 0.5, float(sigma[60]), SCHEDULE)
    for t in range(100):
        before = counter.evaluations
        eps = method(*at(t))
        inside = 0.5 < float(sigma[t]) <= float(sigma[60])
        assert counter.evaluations - before == (4 if inside else 2)
        conditional, unconditional = halves(t)
        torch.testing.assert_close(eps, 4 * conditional - 3 * unconditional if inside else conditional)
    assert float(sigma[60]) > 0.5


def test_rescaling_gives_each_image_the_width_of_its_conditional_half() -> None:
    conditional, unconditional = halves(50)
    eps = Rescale(predictor, 5.0, 1.0)(*at(50))
    torch.testing.assert_close(eps.std(dim=(1, 2, 3)), conditional.std(dim=(1, 2, 3)))
    cfg = 6 * conditional - 5 * unconditional
    torch.testing.assert_close(Rescale(predictor, 5.0, 0.25)(*at(50)), 0.25 * eps + 0.75 * cfg, atol=1e-4, rtol=1e-4)


def clean(eps: Images, t: int) -> Images:
    alpha_bar = float(SCHEDULE.alpha_bar[t])
    x_0: Images = (X_T - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5
    return x_0


def test_projected_guidance_moves_at_right_angles_to_the_conditional_image() -> None:
    conditional, unconditional = halves(50)
    moved = clean(Projected(predictor, 2.0, 0.0, 0.0, 0.0, SCHEDULE)(*at(50)), 50) - clean(conditional, 50)
    along = (moved * clean(conditional, 50)).sum(dim=(1, 2, 3))
    torch.testing.assert_close(along / moved.flatten(1).norm(dim=1), torch.zeros(2), atol=1e-3, rtol=0)
    # The parallel part, kept in full, makes it plain guidance again.
    whole = Projected(predictor, 2.0, 1.0, 0.0, 1e9, SCHEDULE)(*at(50))
    torch.testing.assert_close(whole, 3 * conditional - 2 * unconditional, atol=1e-4, rtol=1e-4)
    short = clean(Projected(predictor, 2.0, 1.0, 0.0, 0.1, SCHEDULE)(*at(50)), 50) - clean(conditional, 50)
    torch.testing.assert_close(short.flatten(1).norm(dim=1), torch.full((2,), 0.2), atol=1e-4, rtol=1e-3)


def test_the_momentum_of_projected_guidance_ends_with_its_trajectory() -> None:
    method = Projected(predictor, 2.0, 1.0, 0.5, 0.0, SCHEDULE)
    alone = {t: Projected(predictor, 2.0, 1.0, 0.5, 0.0, SCHEDULE)(*at(t)) for t in (90, 50)}
    first, second = method(*at(90)), method(*at(50))
    torch.testing.assert_close(first, alone[90])
    difference = {t: clean(halves(t)[0], t) - clean(halves(t)[1], t) for t in (90, 50)}
    expected = clean(halves(50)[0], 50) + 2 * (difference[50] + 0.5 * difference[90])
    torch.testing.assert_close(clean(second, 50), expected, atol=1e-3, rtol=1e-3)
    # A new trajectory begins at a larger timestep, and remembers nothing.
    torch.testing.assert_close(method(*at(90)), alone[90])


@pytest.mark.parametrize("schedule", [SCHEDULE, EXTRA_BETA], ids=["clean end", "extra beta"])
@pytest.mark.parametrize("scale", [0.3, 0.6, 1.0])
def test_cfg_plus_plus_is_its_own_algorithm(scale: float, schedule: NoiseSchedule) -> None:
    # Algorithm 2 of the paper, written out: the guided clean image, the unconditional noise.
    noise = NoiseSource([(0, i) for i in range(2)], (3, 4, 4))
    x_t = noise.draw()
    alpha_bars = [float(schedule.alpha_bar[t]) for t in GRID] + [schedule.end[0] ** 2]
    for t, here, following in zip(GRID, alpha_bars, alpha_bars[1:], strict=False):
        timesteps = torch.tensor([t, t])
        unconditional = predictor(x_t, timesteps, torch.zeros_like(CONDITIONS))
        eps = unconditional + scale * (predictor(x_t, timesteps, CONDITIONS) - unconditional)
        x_0 = (x_t - (1 - here) ** 0.5 * eps) / here**0.5
        x_t = following**0.5 * x_0 + (1 - following) ** 0.5 * unconditional
    method = PlusPlus(predictor, scale - 1, schedule, GRID)
    sampler = DDIMConfig(sampling_steps=10, clamp=False)
    again = NoiseSource([(0, i) for i in range(2)], (3, 4, 4))
    torch.testing.assert_close(sample(method, schedule, sampler, CONDITIONS, again), x_t, atol=1e-2, rtol=1e-3)


def test_composed_guidance_adds_each_member_and_takes_away_the_avoided() -> None:
    x_t, timesteps, conditions = at(50)
    _, unconditional = halves(50)

    def towards(image: int, member: int) -> Images:
        alone = torch.zeros(1, 3)
        alone[0, member] = 1
        one = slice(image, image + 1)
        return predictor(x_t[one], timesteps[one], alone)[0] - unconditional[image]

    avoided = torch.tensor([False, False, True])
    eps = Composed(predictor, 1.5, avoided, -0.5)(x_t, timesteps, conditions)
    torch.testing.assert_close(eps[0], unconditional[0] + 2.5 * towards(0, 0) - 0.5 * towards(0, 2))
    # What is asked for is not avoided at the same time.
    torch.testing.assert_close(eps[1], unconditional[1] + 2.5 * towards(1, 1) + 2.5 * towards(1, 2))
    counter = EvaluationCounter(predictor)
    Composed(counter, 1.5, avoided, -0.5)(x_t, timesteps, conditions)
    assert counter.evaluations == 2 + 4


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rescail", "no method 'rescail'; choose from plain, interval"),
        ("rescail", "composed, classifier, dynamic, distilled; did you mean 'rescale'?"),
        ("rescale:ph=0.2", "no setting 'ph=0.2'; choose from phi=...; did you mean 'phi'?"),
        ("rescale:phi", "no setting 'phi'"),
        ("rescale:phi=much", "phi is 'much'; it must be a number"),
        ("rescale:phi=1.5", "--guidance.method rescale:phi is 1.5"),
        ("rescale:phi=0.1,phi=0.2", "phi is given twice"),
        ("plain:phi=1", "no setting 'phi=1'; it has no settings"),
        ("interval:low=2,high=1", "low=2,high=1; they must be 0 <= low <= high"),
        ("interval:low=nan", "they must be 0 <= low <= high"),
        (
            "schedule:shape=linaer",
            "=linaer; choose from constant, linear, cosine, clamped, beta, exponential; did you mean 'linear'?",
        ),
        ("schedule:shape=beta,a=0.5", "--guidance.method schedule:a is 0.5"),
        ("composed:avoided_scale=0.5", "--guidance.method composed:avoided-scale is 0.5"),
        ("annealed:clean=0.9,noisy=0.8", "clean=0.9,noisy=0.8; they must be clean <= noisy <= 1"),
        ("annealed:clean=nan", "--guidance.method annealed:clean is nan"),
        ("feedback:pi=0.2", "--guidance.method feedback:pi is 0.2"),
        ("timestep:spread=2", "--guidance.method timestep:spread is 2"),
        ("magnitude:damping=-1", "--guidance.method magnitude:damping is -1"),
        ("classifier:scale=-1", "--guidance.method classifier:scale is -1"),
        ("classifier:by=jugde", "has by=jugde; choose from guide, judge; did you mean 'judge'?"),
        ("classifier:gradient=x", "has gradient=x; choose from x_0, x_t"),
        ("classifier:likelihood=softplus", "choose from sigmoid, softmax"),
        ("dynamic:candidates=0", "--guidance.method dynamic:candidates is 0; it must be from 1 to 100"),
        ("dynamic:candidates=2.5", "candidates is '2.5'; it must be a whole number"),
        ("dynamic:by=guid", "has by=guid; choose from guide, judge; did you mean 'guide'?"),
        ("dynamic:likelihood=clip", "has likelihood=clip; choose from sigmoid, softmax"),
        ("projected:momentum=-1", "--guidance.method projected:momentum is -1"),
    ],
)
def test_settings_that_cannot_be_are_refused(text: str, told: str) -> None:
    with pytest.raises(LabError, match=re.escape(told)):
        named_method(text)


def test_no_method_is_swept_twice_with_the_same_settings() -> None:
    with pytest.raises(LabError, match=re.escape("--guidance.method is empty")):
        GuidanceConfig(method=())
    for twice in (("plain", "plain"), ("rescale", "rescale:phi=0.7")):
        with pytest.raises(LabError, match=f"has {twice[0]} twice"):
            named_methods(twice)
    assert len(named_methods(("interval", "interval:low=0.1", "interval:low=0.1,high=2"))) == 3


@given(low=st.integers(0, 999).map(lambda n: n / 100), width=st.integers(0, 999).map(lambda n: n / 100))
def test_a_label_names_its_method_again(low: float, width: float) -> None:
    method = IntervalMethod(low=low, high=round(low + width, 2))
    assert named_method(NamedMethod("interval", method).label).method == method


def test_a_label_names_what_is_not_at_its_default() -> None:
    assert named_method("interval:low=0.3").label == "interval"
    assert named_method("interval:high=2").label == "interval:high=2"
    avoiding = named_method("composed:avoid=red cube,avoid=b")
    assert avoiding.method == ComposedMethod(avoid=("red cube", "b"))
    assert avoiding.label == "composed:avoid=red cube,avoid=b"


def test_a_method_says_what_it_is_defined_for() -> None:
    plus_plus = named_method("plus_plus")
    for sampler in (DPMSolverConfig(), DDIMConfig(eta=0.5)):
        with pytest.raises(LabError, match="needs deterministic ddim"):
            plus_plus.require_sampler(sampler)
    plus_plus.require_sampler(DDIMConfig())
    assert not plus_plus.problems((-1, -0.5, 0), DDIMConfig(clamp=False))
    beyond = plus_plus.problems((-0.5, 2, 4), DDIMConfig())
    assert "w from -1 to 0, not for w = 2, w = 4; it is exact only without clamping" in beyond
    assert not named_method("plain").problems((-1, 0, 100), DPMSolverConfig())


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_unconditional_where_it_says_so_and_nowhere_else(name: str) -> None:
    method = METHODS[name]()
    seen: list[Conditions] = []
    called: list[Images] = []

    def noting(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        seen.append(conditions)
        return predictor(x_t, timesteps, conditions)

    def classifying(images: Images) -> ClassLogits:
        called.append(images)
        return classifier(images)

    randomness = StepRandomness([(0, 0), (0, 1)])
    inputs = Unguided(noting, noting, SCHEDULE, GRID, VOCABULARY, randomness, classifiers={"guide": classifying})
    guidance = method.guide(inputs, -1.0)
    for t in GRID:
        guidance(*at(t))
    blind = not called and not any(bool(rows.any()) for rows in seen)
    assert blind == (method.facts.unconditional_at == -1.0)


@pytest.mark.parametrize("weight", [-1.0, 0.0, 2.0])
def test_an_image_costs_composed_guidance_the_same_whichever_images_share_its_batch(weight: float) -> None:
    conditions = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    x_t, timesteps = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(0)), torch.full((4,), 7)
    together, alone = EvaluationCounter(predictor), EvaluationCounter(predictor)
    eps = guided(NEUTRAL["composed"], weight, together)(x_t, timesteps, conditions)
    each = [slice(place, place + 1) for place in range(4)]
    one_by_one = [guided(NEUTRAL["composed"], weight, alone)(x_t[one], timesteps[one], conditions[one]) for one in each]
    torch.testing.assert_close(eps, torch.cat(one_by_one))
    assert together.evaluations == alone.evaluations


def test_composed_guidance_puts_no_more_than_two_halves_through_at_once() -> None:
    sizes: list[int] = []

    def noting(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        sizes.append(len(x_t))
        return predictor(x_t, timesteps, conditions)

    x_t, conditions = torch.randn(4, 3, 4, 4), torch.ones(4, 3)
    eps = guided(NEUTRAL["composed"], 1.0, noting)(x_t, torch.full((4,), 7), conditions)
    # Four unconditional rows, and three members of each image.
    assert sizes == [8, 8]
    whole = guided(NEUTRAL["composed"], 1.0)(x_t[:1], torch.full((1,), 7), conditions[:1])
    torch.testing.assert_close(eps[:1], whole)
