"""Dynamic guidance (Papalampidi et al. 2025, arXiv:2509.16131): a classifier chooses a weight for each image and step.

    eps(v) = (1 + v) eps_conditional - v eps_unconditional,    x_0(v) = (x_t - sigma eps(v)) / alpha
    eps = eps(argmax over v of log p(labels | x_0(v))),    v in {0, w / (N - 1), 2 w / (N - 1), ..., w}

The search is greedy: each step takes the candidate v whose predicted clean image shows the labels best. Of equally good
candidates, it is the smallest. The noise is linear in v, so a step costs the two network evaluations of plain guidance,
and N evaluations of the classifier, without its gradient. At w = 0 there is nothing to choose, and no classifier.

The source weighs several evaluators against each other, among them a discriminator and a model of human preferences.
Here one classifier decides, by the log-likelihood in `lab/guidance/classifier.py`. It sees x_0 limited to [-1, 1], the
range that it was trained on. Neutral: N = 1, whose only candidate is w.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from lab.configuration.checks import require_range
from lab.diffusion.schedules import NoiseSchedule
from lab.guidance.classifier import CLASSIFIERS, LIKELIHOODS, LogLikelihoods, classifier_of, require_choice
from lab.guidance.classifier_free import ClassifierFreeGuidance, mixed, two_halves
from lab.guidance.method import Facts, Unguided
from lab.types import Conditions, ImageClassifier, Images, NoisePredictor, Timesteps


@dataclass(frozen=True)
class DynamicMethod:
    """`dynamic`: plain guidance whose weight a classifier chooses for each image and step.

    Args:
        candidates: N, 1 to 100.
        by: guide, a classifier trained on the generator's images; or judge, the evaluator that ranks, whose accuracy
            then says nothing.
        likelihood: sigmoid, as the lab's classifiers are trained, or softmax.
    """

    candidates: int = 5
    by: str = "guide"
    likelihood: str = "sigmoid"
    facts: ClassVar[Facts] = Facts(weights=(0.0, math.inf))

    def __post_init__(self) -> None:
        require_range("guidance.method dynamic:candidates", self.candidates, 1, 100)
        require_choice("dynamic", "by", self.by, CLASSIFIERS)
        require_choice("dynamic", "likelihood", self.likelihood, LIKELIHOODS)

    @property
    def guided_by(self) -> str:
        """The classifier that chooses, or "" if there is no choice."""
        return self.by if self.candidates > 1 else ""

    def guide(self, unguided: Unguided, weight: float) -> NoisePredictor:
        """Return the noise predictor guided at weights up to w.

        Raises:
            LabError: the classifier is not among those of `unguided`.
        """
        if self.candidates == 1:
            return ClassifierFreeGuidance(unguided.predictor, weight)
        classifier = classifier_of(unguided, "dynamic", self.by)
        if weight == 0:
            return ClassifierFreeGuidance(unguided.predictor, weight)
        weights = tuple(weight * place / (self.candidates - 1) for place in range(self.candidates))
        return DynamicGuidance(unguided.predictor, classifier, unguided.schedule, weights, self.likelihood)


@dataclass(frozen=True)
class DynamicGuidance:
    """Plain guidance at the weight that a classifier chooses.

    Args:
        predictor: the noise predictor.
        classifier: maps images in [-1, 1] to logits, each image by itself.
        schedule: the noise schedule that the predictor was trained on.
        weights: the candidates; the first of equally good ones is taken.
        likelihood: a name in `lab.guidance.classifier.LIKELIHOODS`.
    """

    predictor: NoisePredictor
    classifier: ImageClassifier
    schedule: NoiseSchedule
    weights: tuple[float, ...]
    likelihood: str

    def __call__(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Return the guided noise, shaped like x_t."""
        conditional, unconditional = two_halves(self.predictor, x_t, timesteps, conditions)
        clean = (
            self.schedule.denoised(x_t, timesteps, mixed(conditional, unconditional, weight)) for weight in self.weights
        )
        # One candidate after another: all of them at once may not fit into memory.
        likelihoods = torch.stack([self.log_likelihoods(x_0.clamp(-1, 1), conditions) for x_0 in clean])
        chosen = x_t.new_tensor(self.weights)[likelihoods.argmax(dim=0)]
        return mixed(conditional, unconditional, chosen.view(-1, 1, 1, 1))

    def log_likelihoods(self, images: Images, conditions: Conditions) -> LogLikelihoods:
        """Return log p(labels | image) of each image, 0 for images without a label."""
        likelihoods = LIKELIHOODS[self.likelihood](self.classifier(images), conditions, 1.0, 1.0)
        return likelihoods * conditions.any(dim=1)
