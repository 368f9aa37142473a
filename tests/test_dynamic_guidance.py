"""Guidance whose weight a classifier chooses: its equations written again, a mixture in closed form, and its cost."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from evaluator.classifiers.networks import build_classifier
from evaluator.configuration import EvaluatorConfig
from lab.configuration.diffusion import CosineScheduleConfig, DDIMConfig
from lab.data.labels import ClassVocabulary
from lab.diffusion.denoising import timestep_grid
from lab.diffusion.noise_source import NoiseSource
from lab.diffusion.samplers import sample
from lab.diffusion.schedules import noise_schedule
from lab.errors import LabError
from lab.guidance.classifier import ClassifierMethod
from lab.guidance.dynamic import DynamicMethod
from lab.guidance.effective_scale import EffectiveScale, effective_scale
from lab.guidance.evaluation_counter import ClassifierCounter, EvaluationCounter
from lab.guidance.method import GuidanceMethod, Unguided, guided_by
from lab.types import ClassLogits, Conditions, ImageClassifier, Images, NoisePredictor, Timesteps

SHAPE = (1, 8, 8)
SCHEDULE = noise_schedule(CosineScheduleConfig(timesteps=100))
VOCABULARY = ClassVocabulary(("a", "b", "c"))
IMAGES = 24
CONDITIONS = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 1, 1], [1, 1, 1]]).repeat(IMAGES // 4, 1)
X_T = torch.randn(IMAGES, *SHAPE, generator=torch.Generator().manual_seed(3))
NETWORK = build_classifier(EvaluatorConfig(width=8), 1, 3, seed=2).eval().requires_grad_(False)


def a_classifier(images: Images) -> ClassLogits:
    """An untrained classifier, as sure of itself as a trained one, so that no choice hangs on rounding."""
    logits: ClassLogits = 100 * NETWORK(images)
    return logits


def predictor(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
    """A prediction that moves each image along a pattern of its labels."""
    patterns = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(7)).to(x_t)
    eps: Images = 0.7 * x_t + 0.3 * torch.einsum("bk,kchw->bchw", conditions.to(x_t), patterns)
    return eps


def guided(
    method: GuidanceMethod,
    weight: float,
    inner: NoisePredictor = predictor,
    classifier: ImageClassifier = a_classifier,
) -> NoisePredictor:
    grid = timestep_grid(SCHEDULE.timesteps, 10)
    return method.guide(Unguided(inner, inner, SCHEDULE, grid, VOCABULARY, classifiers={"guide": classifier}), weight)


def log_likelihood(likelihood: str, logits: Tensor, labels: list[int]) -> float:
    """The log-likelihood of one image's labels, written from its definition, a class at a time."""
    f = logits.double()
    if likelihood == "softmax":
        return sum(math.log(float(torch.exp(f[k]) / torch.exp(f).sum())) for k in labels)
    present = [float(torch.sigmoid(f[k] if k in labels else -f[k])) for k in range(len(f))]
    return sum(map(math.log, present))


@pytest.mark.parametrize("t", [20, 60, 90])
@pytest.mark.parametrize("candidates", [2, 4])
@pytest.mark.parametrize("likelihood", ["sigmoid", "softmax"])
def test_the_guided_noise_is_that_of_an_implementation_image_by_image(likelihood: str, candidates: int, t: int) -> None:
    weight, chosen = 3.0, []
    timesteps = torch.full((IMAGES,), t)
    found = guided(DynamicMethod(candidates, likelihood=likelihood), weight)(X_T, timesteps, CONDITIONS)
    alpha, sigma = float(SCHEDULE.alpha[t]), float(SCHEDULE.sigma[t])
    for i in range(IMAGES):
        one = X_T[i : i + 1], timesteps[i : i + 1]
        conditional, unconditional = predictor(*one, CONDITIONS[i : i + 1]), predictor(*one, torch.zeros(1, 3))
        scores: list[tuple[float, Tensor]] = []
        for place in range(candidates):
            # In the guidance scale s = 1 + w that the source uses.
            scale = 1 + place * weight / (candidates - 1)
            eps = unconditional + scale * (conditional - unconditional)
            x_0 = ((X_T[i : i + 1] - sigma * eps) / alpha).clamp(-1, 1)
            labels = CONDITIONS[i].nonzero().flatten().tolist()
            scores.append((log_likelihood(likelihood, a_classifier(x_0)[0], labels), eps))
        values = sorted(score for score, _ in scores)
        assert values[-1] - values[-2] > 1e-5, "the choice must not hang on rounding"
        best = max(range(candidates), key=lambda place: scores[place][0])
        chosen.append(best)
        torch.testing.assert_close(found[i : i + 1], scores[best][1], atol=1e-5, rtol=1e-5)
    assert len(set(chosen)) > 1


CENTRES = np.array([-0.6, 0.1, 0.7])
VARIANCE = 2.56


def mixture(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
    """The exact noise prediction for Gaussians whose pixels have one mean each: of the requested ones, or of all."""
    x_t = x_t.double()
    alpha, sigma = SCHEDULE.amounts(timesteps, x_t)
    spread = alpha**2 * VARIANCE + sigma**2
    apart = x_t[:, None] - alpha[:, None] * torch.tensor(CENTRES).view(1, 3, 1, 1, 1)
    possible = torch.where(conditions.any(dim=1, keepdim=True), conditions > 0, True)
    logits = -(apart**2).sum(dim=(2, 3, 4)) / (2 * spread[:, 0, 0])
    share = logits.masked_fill(~possible, -math.inf).softmax(dim=1)[:, :, None, None, None]
    eps: Images = sigma * (share * apart).sum(dim=1) / spread
    return eps


def true_classifier(images: Images) -> ClassLogits:
    """The exact log-probability of each class of the mixture, up to a constant."""
    apart = images.double()[:, None] - torch.tensor(CENTRES).view(1, 3, 1, 1, 1)
    return -(apart**2).sum(dim=(2, 3, 4)) / (2 * VARIANCE)


def test_on_a_mixture_it_takes_the_weight_of_the_largest_posterior() -> None:
    """A constant image x of P pixels has log p(k | x) = -log sum_j exp(P ((x - m_k)^2 - (x - m_j)^2) / (2 v))."""
    t, weight, candidates, pixels = 60, 4.0, 9, 64
    alpha, sigma = float(SCHEDULE.alpha[t]), float(SCHEDULE.sigma[t])
    spread = alpha**2 * VARIANCE + sigma**2
    values = np.linspace(-0.5, 0.6, 30)
    weights, chosen = np.linspace(0, weight, candidates), []
    for k in range(3):
        x_t = torch.tensor(values).view(-1, 1, 1, 1).expand(-1, *SHAPE)
        conditions = torch.eye(3)[k].expand(len(values), -1)
        method = DynamicMethod(candidates, likelihood="softmax")
        found = guided(method, weight, mixture, true_classifier)(x_t, torch.full((len(values),), t), conditions)
        for x, eps in zip(values, found[:, 0, 0, 0].tolist(), strict=True):
            shares = np.exp(-pixels * (x - alpha * CENTRES) ** 2 / (2 * spread))
            # The posterior mean of a Gaussian, and their mean over the classes.
            means = CENTRES + alpha * VARIANCE / spread * (x - alpha * CENTRES)
            conditional, unconditional = means[k], float(shares @ means / shares.sum())
            clean = np.clip(conditional + weights * (conditional - unconditional), -1, 1)
            apart = (clean[:, None] - CENTRES) ** 2
            posterior = -np.log(np.exp(pixels * (apart[:, [k]] - apart) / (2 * VARIANCE)).sum(axis=1))
            best = int(posterior.argmax())
            expected = conditional + weights[best] * (conditional - unconditional)
            assert (x - sigma * eps) / alpha == pytest.approx(expected, abs=1e-9)
            chosen.append((k, best))
    # The outer classes are the surer, the farther out; the middle one is surest between the others.
    assert {best for k, best in chosen if k != 1} > {4, candidates - 1}
    assert {best for k, best in chosen if k == 1} > {0, 2, 3, 4}


def test_each_image_has_a_weight_of_its_own_whatever_the_batch() -> None:
    sampler = DDIMConfig(sampling_steps=10)

    def images(places: range) -> Images:
        noise = NoiseSource([(0, i) for i in places], SHAPE)
        guidance = guided(DynamicMethod(), 3.0)
        return sample(guidance, SCHEDULE, sampler, CONDITIONS[places.start : places.stop], noise)

    whole = images(range(IMAGES))
    for size in (1, 5):
        parts = [images(range(begin, min(begin + size, IMAGES))) for begin in range(0, IMAGES, size)]
        torch.testing.assert_close(torch.cat(parts), whole, atol=1e-4, rtol=1e-4)


def test_an_image_without_a_label_is_not_guided() -> None:
    timesteps, nothing = torch.full((IMAGES,), 50), torch.zeros(IMAGES, 3)
    found = guided(DynamicMethod(), 3.0)(X_T, timesteps, nothing)
    assert torch.equal(found, predictor(X_T, timesteps, nothing))


@pytest.mark.parametrize(("weight", "candidates", "evaluations", "of_classifier"), [
    (0.0, 5, 1, 0), (2.0, 5, 2, 5), (2.0, 2, 2, 2), (2.0, 1, 2, 0),
])  # fmt: skip
def test_the_choice_costs_evaluations_of_the_classifier_alone(
    weight: float, candidates: int, evaluations: int, of_classifier: int
) -> None:
    counter, classifier = EvaluationCounter(predictor), ClassifierCounter(a_classifier)
    with torch.inference_mode():
        timesteps = torch.full((IMAGES,), 50)
        guided(DynamicMethod(candidates), weight, counter, classifier)(X_T, timesteps, CONDITIONS)
    assert counter.evaluations == evaluations * IMAGES
    assert classifier.evaluations == of_classifier * IMAGES


def test_its_effective_scale_is_the_mean_of_the_chosen_ones() -> None:
    def brighter(images: Images) -> ClassLogits:
        return images.mean(dim=(1, 2, 3))[:, None] * torch.tensor([[1.0, 0, -1]])

    def towards_white(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        # The predicted image has the value 0.1 (1 + w) everywhere.
        alpha, sigma = SCHEDULE.amounts(timesteps, x_t)
        return (x_t - alpha * 0.1 * conditions.sum(dim=1).view(-1, 1, 1, 1)) / sigma

    # The first image is to be bright, which the largest weight makes it; the second one dark, which weight 0 does.
    conditions = torch.tensor([[1.0, 0, 0], [0, 0, 1]])
    meter = EffectiveScale()
    inner = guided(DynamicMethod(likelihood="softmax"), 3.0, meter.observed(towards_white), meter.classifying(brighter))
    noise = NoiseSource([(0, 0), (0, 1)], SHAPE)
    sample(meter.measured(inner), SCHEDULE, DDIMConfig(sampling_steps=5), conditions, noise)
    sums = meter.taken()
    assert effective_scale(sums[:1]) == pytest.approx(4.0, abs=1e-4)
    assert effective_scale(sums[1:]) == pytest.approx(1.0, abs=1e-4)


def test_a_classifier_is_needed_where_there_is_a_choice() -> None:
    nobody = Unguided(predictor, predictor, SCHEDULE, [0], VOCABULARY)
    with pytest.raises(LabError, match="dynamic has by=guide, and there is no guide here; give one"):
        DynamicMethod().guide(nobody, 1.0)
    with pytest.raises(LabError, match="dynamic has by=judge, and there is no judge here; use by=guide"):
        DynamicMethod(by="judge").guide(nobody, 1.0)
    assert [guided_by(method) for method in (DynamicMethod(), DynamicMethod(1), DynamicMethod(by="judge"))] == [
        "guide", "", "judge"
    ]  # fmt: skip
    assert guided_by(ClassifierMethod()) == "guide"
    DynamicMethod(candidates=1).guide(nobody, 1.0)
