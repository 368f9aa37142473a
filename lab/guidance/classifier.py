"""Classifier guidance (Dhariwal & Nichol 2021, arXiv:2105.05233, algorithm 2) on the predicted clean image.

    eps_plain = (1 + w) eps_conditional - w eps_unconditional,    x_0 = (x_t - sigma eps_plain) / alpha
    eps = eps_plain - s sigma grad log p(labels | x_0)

sigma is sqrt(1 - alpha_bar) if the schedule preserves variance. w is plain guidance's weight: at w = -1 the classifier
alone guides an unconditional network, at w = 0 a conditional one, and for w > 0 it comes on top of plain guidance.
The classifier sees x_0 limited to [-1, 1], the range it was trained on; the gradient is the one at that image.

`gradient` says with respect to what:

    x_0    the predicted image alone, as Ma et al. 2023 (EluCD, arXiv:2310.11311): costs no network evaluation
    x_t    the noisy image, back through the denoiser, as Bansal et al. 2023 (universal guidance, arXiv:2302.07121,
           equation 6): one more network evaluation for each one of plain guidance

For a Gaussian prior of covariance C and log p = a x_0 + constant, x_t with s = 1 gives exactly the posterior, whose
mean is higher by C a. With x_0 and C = I it is higher by log(1 / alpha_T) s a, so its strength depends on where the
noise schedule starts.

Classifiers give one logit f_k per class. `likelihood` says what they mean:

    sigmoid    log p = sum over all k of (c_k joint f_k - log(1 + exp(marginal f_k))), each class there or not
    softmax    log p = sum over requested k of (joint f_k - log sum_j exp(marginal f_j)), one class an image

c_k is 1 for the requested classes. Both are the classifier's own at joint = marginal = 1; EluCD tempers with
marginal = 0.5 (its equation for a softmax), which guides on where the classifier is already sure. `softplus` smooths
the classifier as EluCD does: each ReLU becomes log(1 + exp(softplus x)) / softplus; 0 keeps the ReLU.
An image without a label is not guided. Neutral: s = 0.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from lab.configuration.checks import require_range
from lab.diffusion.schedules import NoiseSchedule
from lab.errors import LabError, nearest
from lab.guidance.classifier_free import ClassifierFreeGuidance
from lab.guidance.method import Facts, Unguided
from lab.types import ClassLogits, Conditions, ImageClassifier, Images, NoisePredictor, Timesteps

CLASSIFIERS = ("guide", "judge")
"""Who may guide: a classifier trained for it on the generator's images, or the evaluator that ranks."""
GRADIENTS = ("x_0", "x_t")

LogLikelihoods = Float[Tensor, "batch"]


def of_sigmoid(logits: ClassLogits, conditions: Conditions, joint: float, marginal: float) -> LogLikelihoods:
    """Return the tempered log-likelihood of each image's labels if every logit decides on one class alone."""
    return (joint * conditions * logits - functional.softplus(marginal * logits)).sum(dim=1)


def of_softmax(logits: ClassLogits, conditions: Conditions, joint: float, marginal: float) -> LogLikelihoods:
    """Return the tempered log-likelihood of each image's labels if the logits decide between the classes."""
    normaliser = (marginal * logits).logsumexp(dim=1, keepdim=True)
    return (conditions * (joint * logits - normaliser)).sum(dim=1)


LIKELIHOODS: dict[str, Callable[[ClassLogits, Conditions, float, float], LogLikelihoods]] = {
    "sigmoid": of_sigmoid,
    "softmax": of_softmax,
}


def require_choice(method: str, setting: str, value: str, choices: Collection[str]) -> None:
    """Raise LabError unless a setting of a method has one of its values."""
    if value not in choices:
        raise LabError(
            f"--guidance.method {method} has {setting}={value}; choose from {', '.join(choices)}"
            f"{nearest(value, choices)}"
        )


def classifier_of(unguided: Unguided, method: str, by: str) -> ImageClassifier:
    """Return the classifier of this name for a method.

    Raises:
        LabError: it is not among those of `unguided`.
    """
    if by not in unguided.classifiers:
        raise LabError(
            f"--guidance.method {method} has by={by}, and there is no {by} here; "
            f"{'give one' if by == 'guide' else 'use by=guide'}"
        )
    return unguided.classifiers[by]


class Smoothed(TorchFunctionMode):
    """Within it, every ReLU is a softplus of this sharpness; 0 changes nothing."""

    RELUS = (functional.relu, functional.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)

    def __init__(self, sharpness: float) -> None:
        super().__init__()
        self.sharpness = sharpness

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        """Call a function of torch, or softplus instead of ReLU."""
        if self.sharpness and function in self.RELUS:
            return functional.softplus(arguments[0], beta=self.sharpness)
        return function(*arguments, **(named or {}))


@dataclass(frozen=True)
class ClassifierMethod:
    """`classifier`: guidance by the gradient of a classifier, on top of plain guidance.

    Args:
        scale: s, 0 to 1000.
        by: guide, a classifier trained on the generator's images; or judge, the evaluator that ranks, whose accuracy
            then says nothing.
        gradient: x_0 or x_t.
        joint, marginal: the factors of the logits, 0 to 100.
        softplus: the sharpness of the smoothed ReLU, 0 to 1000; 0 for no smoothing.
        likelihood: sigmoid, as the lab's classifiers are trained, or softmax.
    """

    scale: float = 1.0
    by: str = "guide"
    gradient: str = "x_0"
    joint: float = 1.0
    marginal: float = 1.0
    softplus: float = 0.0
    likelihood: str = "sigmoid"
    facts: ClassVar[Facts] = Facts()

    def __post_init__(self) -> None:
        for name, high in (("scale", 1000), ("joint", 100), ("marginal", 100), ("softplus", 1000)):
            require_range(f"guidance.method classifier:{name}", getattr(self, name), 0, high)
        for name, choices in (("by", CLASSIFIERS), ("gradient", GRADIENTS), ("likelihood", LIKELIHOODS)):
            require_choice("classifier", name, getattr(self, name), choices)

    @property
    def guided_by(self) -> str:
        """The classifier that guides, or "" at scale 0."""
        return self.by if self.scale else ""

    def guide(self, unguided: Unguided, weight: float) -> NoisePredictor:
        """Return the noise predictor guided at weight w.

        Raises:
            LabError: the classifier is not among those of `unguided`.
        """
        plain = ClassifierFreeGuidance(unguided.predictor, weight)
        if not self.scale:
            return plain
        return ClassifierGuidance(plain, classifier_of(unguided, "classifier", self.by), unguided.schedule, self)


@dataclass(frozen=True)
class ClassifierGuidance:
    """Guidance of a noise predictor by a classifier.

    Args:
        plain: the noise predictor, with plain guidance already applied.
        classifier: maps images in [-1, 1] to logits, each image by itself.
        schedule: the noise schedule that the predictor was trained on.
        settings: the scale and the form of the gradient.
    """

    plain: NoisePredictor
    classifier: ImageClassifier
    schedule: NoiseSchedule
    settings: ClassifierMethod

    def __call__(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Return the guided noise, shaped like x_t."""
        # Sampling runs in inference mode, whose tensors no gradient can pass.
        with torch.inference_mode(False), torch.enable_grad():
            x_t, timesteps, conditions = x_t.clone(), timesteps.clone(), conditions.clone()
            through = self.settings.gradient == "x_t"
            with torch.set_grad_enabled(through):
                eps = self.plain(x_t.requires_grad_(through), timesteps, conditions)
                x_0 = self.schedule.denoised(x_t, timesteps, eps)
            towards = self.towards_labels(x_0.detach().clamp(-1, 1), conditions)
            if through:
                (towards,) = torch.autograd.grad(x_0, x_t, towards.to(x_0.dtype))
        _, sigma = self.schedule.amounts(timesteps, x_t)
        return eps.detach() - self.settings.scale * sigma * towards.to(eps.dtype)

    def towards_labels(self, images: Images, conditions: Conditions) -> Images:
        """Return the gradient of log p(labels | images) with respect to the images, 0 for images without a label."""
        settings = self.settings
        images = images.requires_grad_()
        with Smoothed(settings.softplus):
            logits = self.classifier(images)
        likelihood = LIKELIHOODS[settings.likelihood](logits, conditions, settings.joint, settings.marginal)
        likelihood = likelihood * conditions.any(dim=1)
        (gradient,) = torch.autograd.grad(likelihood.sum(), images)
        return gradient
