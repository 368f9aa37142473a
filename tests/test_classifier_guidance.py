"""Guidance by a classifier: its equations written again, exact posteriors, its cost, and each image by itself."""

import math

import pytest
import torch
from torch import Tensor, nn

from evaluator.classifiers.networks import build_classifier
from evaluator.configuration import EvaluatorConfig
from lab.configuration.diffusion import CosineScheduleConfig, DDIMConfig, DPMSolverConfig, LinearScheduleConfig
from lab.data.labels import ClassVocabulary
from lab.diffusion.denoising import timestep_grid
from lab.diffusion.noise_source import NoiseSource
from lab.diffusion.samplers import sample
from lab.diffusion.schedules import NoiseSchedule, noise_schedule
from lab.errors import LabError
from lab.guidance.classifier import ClassifierMethod
from lab.guidance.classifier_free import PlainMethod
from lab.guidance.effective_scale import EffectiveScale, effective_scale
from lab.guidance.evaluation_counter import ClassifierCounter, EvaluationCounter
from lab.guidance.method import Unguided
from lab.types import ClassLogits, Conditions, ImageClassifier, Images, NoisePredictor, Timesteps

SHAPE = (1, 4, 4)
SCHEDULE = noise_schedule(CosineScheduleConfig(timesteps=100))
VOCABULARY = ClassVocabulary(("a", "b", "c"))
CONDITIONS = torch.tensor([[1.0, 0, 0], [0, 1, 1], [0, 0, 0]])
TIMESTEPS = torch.tensor([40, 40, 40])
X_T = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(3))


def small_network() -> nn.Module:
    """A differentiable denoiser that mixes pixels, so that its Jacobian is not diagonal."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 24), nn.Tanh(), nn.Linear(24, 16), nn.Unflatten(1, SHAPE))


NETWORK = small_network().requires_grad_(False)
CLASSIFIER = build_classifier(EvaluatorConfig(width=4), 1, 3, seed=2).eval().requires_grad_(False)


def predictor(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
    asked = (conditions @ torch.tensor([0.5, -0.3, 0.2])).view(-1, 1, 1, 1)
    eps: Images = NETWORK(x_t) * (1 + asked) + asked
    return eps


def guided(
    method: ClassifierMethod | PlainMethod,
    weight: float,
    inner: NoisePredictor = predictor,
    classifier: ImageClassifier = CLASSIFIER,
    schedule: NoiseSchedule = SCHEDULE,
) -> NoisePredictor:
    grid = timestep_grid(schedule.timesteps, 10)
    return method.guide(Unguided(inner, inner, schedule, grid, VOCABULARY, classifiers={"guide": classifier}), weight)


def smooth(classifier: nn.Module, sharpness: float) -> nn.Module:
    """Return a copy whose ReLUs are softplus, as EluCD's code replaces them."""
    again = build_classifier(EvaluatorConfig(width=4), 1, 3, seed=2).eval()
    again.load_state_dict(classifier.state_dict())
    for parent in list(again.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.ReLU):
                setattr(parent, name, nn.Softplus(beta=sharpness))
    return again


def log_likelihood(likelihood: str, logits: Tensor, labels: list[int], joint: float, marginal: float) -> Tensor:
    """The tempered log-likelihood of one image's labels, written from its definition, a class at a time."""
    total = 0 * logits.sum()
    for k, logit in enumerate(logits) if labels else ():
        if k in labels:
            total = total + joint * logit
        if likelihood == "sigmoid":
            total = total - torch.log(1 + torch.exp(marginal * logit))
        elif k in labels:
            total = total - torch.log(torch.exp(marginal * logits).sum())
    return total


@pytest.mark.parametrize("weight", [-1.0, 0.0, 1.5])
@pytest.mark.parametrize("gradient", ["x_0", "x_t"])
@pytest.mark.parametrize("likelihood", ["sigmoid", "softmax"])
def test_the_guided_noise_is_that_of_an_implementation_image_by_image(
    weight: float, gradient: str, likelihood: str
) -> None:
    method = ClassifierMethod(2.5, "guide", gradient, 1.2, 0.5, 3.0, likelihood)
    eps = guided(method, weight)(X_T, TIMESTEPS, CONDITIONS)
    alpha_bar = float(SCHEDULE.alpha_bar[40])
    classifier = smooth(CLASSIFIER, 3.0)
    for i in range(3):
        x_t = X_T[i : i + 1].clone().requires_grad_()
        condition = CONDITIONS[i : i + 1]
        conditional, unconditional = (predictor(x_t, TIMESTEPS[:1], c) for c in (condition, 0 * condition))
        plain = unconditional + (1 + weight) * (conditional - unconditional)
        x_0 = (x_t - (1 - alpha_bar) ** 0.5 * plain) / alpha_bar**0.5
        image = x_0.detach().clamp(-1, 1).requires_grad_()
        labels = condition[0].nonzero().flatten().tolist()
        (slope,) = torch.autograd.grad(log_likelihood(likelihood, classifier(image)[0], labels, 1.2, 0.5), image)
        if gradient == "x_t":
            rows = [torch.autograd.grad(x_0.flatten()[j], x_t, retain_graph=True)[0].flatten() for j in range(16)]
            slope = (slope.flatten() @ torch.stack(rows)).view_as(slope)
        expected = plain.detach() - 2.5 * (1 - alpha_bar) ** 0.5 * slope
        torch.testing.assert_close(eps[i : i + 1], expected, atol=1e-5, rtol=1e-5)


def test_an_image_without_a_label_is_not_guided() -> None:
    plain, by_classifier = (guided(method, 1.5)(X_T, TIMESTEPS, CONDITIONS) for method in (PlainMethod(), STRONG))
    torch.testing.assert_close(by_classifier[2], plain[2], atol=0, rtol=0)
    assert not torch.allclose(by_classifier[:2], plain[:2])


STRONG = ClassifierMethod(scale=5.0)


@pytest.mark.parametrize("gradient", ["x_0", "x_t"])
def test_each_image_is_guided_by_itself(gradient: str) -> None:
    noise = [(7, i) for i in range(3)]
    sampler = DDIMConfig(sampling_steps=10)
    predictors = guided(ClassifierMethod(5.0, gradient=gradient), 0.5)
    together = sample(predictors, SCHEDULE, sampler, CONDITIONS, NoiseSource(noise, SHAPE))
    for i in range(3):
        alone = sample(predictors, SCHEDULE, sampler, CONDITIONS[i : i + 1], NoiseSource(noise[i : i + 1], SHAPE))
        torch.testing.assert_close(alone, together[i : i + 1], atol=1e-5, rtol=1e-5)


LONG = noise_schedule(CosineScheduleConfig(timesteps=1000))
LINEAR = noise_schedule(LinearScheduleConfig(timesteps=1000))
MEAN = torch.linspace(-0.3, 0.4, 16).view(SHAPE).double()
SLOPES = torch.randn(3, 16, generator=torch.Generator().manual_seed(1)).double() / 3


def gaussian(variance: float) -> NoisePredictor:
    """The exact noise prediction for x_0 from N(MEAN, variance I)."""

    def predicting(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        alpha, sigma = LINEAR.amounts(timesteps, x_t.double())
        eps: Images = sigma * (x_t.double() - alpha * MEAN) / (alpha**2 * variance + sigma**2)
        return eps

    return predicting


def linear(images: Images) -> ClassLogits:
    """Logits that grow linearly: with marginal = 0 the log-likelihood of a class is SLOPES @ image."""
    return images.double().flatten(1) @ SLOPES.T


def moved(method: ClassifierMethod, variance: float) -> Tensor:
    """Return how far the classifier moves an image of each class, sampled without a condition from the same noise."""
    sampler = DPMSolverConfig(sampling_steps=100, clamp=False)
    images = []
    for one in (method, PlainMethod()):
        noise = NoiseSource([(0, i) for i in range(3)], SHAPE)
        predictor = guided(one, -1.0, gaussian(variance), linear, LINEAR)
        images.append(sample(predictor, LINEAR, sampler, torch.eye(3), noise).flatten(1))
    return images[0] - images[1]


@pytest.mark.parametrize("likelihood", ["sigmoid", "softmax"])
@pytest.mark.parametrize("variance", [0.25, 2.0])
def test_through_the_denoiser_a_linear_likelihood_gives_the_exact_posterior(variance: float, likelihood: str) -> None:
    # N(m, v I) times exp(a x) is N(m + v a, v I): every image moves by v a.
    method = ClassifierMethod(1.0, gradient="x_t", marginal=0.0, likelihood=likelihood)
    found = moved(method, variance)
    torch.testing.assert_close(found, (variance * SLOPES).to(found), atol=0.01 * variance, rtol=0.01)


def test_with_respect_to_the_image_the_strength_depends_on_where_the_schedule_starts() -> None:
    start = math.log(1 / float(LINEAR.alpha[-1]))
    assert start > 5
    found = moved(ClassifierMethod(1.0, marginal=0.0), 1.0)
    torch.testing.assert_close(found, (start * SLOPES).to(found), atol=0.02 * start, rtol=0.02)


CENTRES = torch.tensor([-0.6, 0.1, 0.7]).double()


def mixture(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
    """The exact noise prediction for an even mixture of three Gaussians whose pixels have one mean each."""
    x_t = x_t.double()
    alpha, sigma = LONG.amounts(timesteps, x_t)
    spread = alpha**2 * 0.04 + sigma**2
    apart = x_t[:, None] - alpha[:, None] * CENTRES.view(1, 3, 1, 1, 1)
    share = (-(apart**2).sum(dim=(2, 3, 4)) / (2 * spread[:, 0, 0])).softmax(dim=1)[:, :, None, None, None]
    eps: Images = sigma * (share * apart).sum(dim=1) / spread
    return eps


def true_classifier(images: Images) -> ClassLogits:
    """The exact log-probability of each class of the mixture, up to a constant."""
    return -((images.double()[:, None] - CENTRES.view(1, 3, 1, 1, 1)) ** 2).sum(dim=(2, 3, 4)) / 0.08


@pytest.mark.parametrize("gradient", ["x_0", "x_t"])
def test_a_classifier_turns_an_unconditional_mixture_to_the_requested_class(gradient: str) -> None:
    wanted = torch.eye(3).repeat(20, 1)
    shares = []
    for scale in (0.0, 0.02, 1.0):
        method = ClassifierMethod(scale, gradient=gradient, likelihood="softmax")
        noise = NoiseSource([(1, i) for i in range(60)], SHAPE)
        sampler = DDIMConfig(sampling_steps=50)
        images = sample(guided(method, -1.0, mixture, true_classifier, LONG), LONG, sampler, wanted, noise)
        shares.append(float((true_classifier(images).argmax(dim=1) == wanted.argmax(dim=1)).float().mean()))
    assert shares[0] < 0.6
    assert shares[0] <= shares[1] <= shares[2]
    assert shares[2] > 0.95


@pytest.mark.parametrize(("gradient", "weight", "evaluations"), [
    ("x_0", -1.0, 1), ("x_0", 0.0, 1), ("x_0", 2.0, 2), ("x_t", 0.0, 2), ("x_t", 2.0, 4),
])  # fmt: skip
def test_the_way_back_through_the_denoiser_is_counted(gradient: str, weight: float, evaluations: int) -> None:
    counter, classifier = EvaluationCounter(predictor), ClassifierCounter(CLASSIFIER)
    with torch.inference_mode():
        guided(ClassifierMethod(gradient=gradient), weight, counter, classifier)(X_T, TIMESTEPS, CONDITIONS)
    assert counter.evaluations == evaluations * 3
    assert classifier.evaluations == 3


@pytest.mark.parametrize("gradient", ["x_0", "x_t"])
@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_a_step_guided_by_a_classifier_has_no_effective_scale(gradient: str, weight: float) -> None:
    for scale, expected in ((0.0, 1 + weight), (1.0, None)):
        meter = EffectiveScale()
        method = ClassifierMethod(scale, gradient=gradient)
        inner = guided(method, weight, meter.observed(predictor), meter.classifying(CLASSIFIER))
        noise = NoiseSource([(0, i) for i in range(3)], SHAPE)
        sample(meter.measured(inner), SCHEDULE, DDIMConfig(sampling_steps=5), torch.eye(3), noise)
        found = effective_scale(meter.taken())
        assert found == (None if expected is None else pytest.approx(expected, abs=1e-4))


def test_without_a_classifier_the_method_says_so() -> None:
    with pytest.raises(LabError, match="has by=judge, and there is no judge here; use by=guide"):
        guided(ClassifierMethod(by="judge"), 1.0)
    with pytest.raises(LabError, match="there is no guide here; give one"):
        ClassifierMethod().guide(Unguided(predictor, predictor, SCHEDULE, [0], VOCABULARY), 1.0)
