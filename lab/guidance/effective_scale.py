"""The effective guidance scale: how far a method moves along the direction of plain guidance, measured while sampling.

    s = mean over steps and images of <eps - eps_u, eps_c - eps_u> / |eps_c - eps_u|^2

eps is the method's prediction; eps_c and eps_u are the network's conditional and unconditional prediction at the same
x_t, t and condition. Plain guidance has s = 1 + w at every step. The measurement observes the evaluations that the
method makes and adds none.

- A step that computes one half alone and returns it unchanged counts as what it returns: 1 for the conditional half
  (w = 0, or outside a limited interval), 0 for the unconditional half (w = -1).
- A step does not count for an image whose halves are equal up to `RESOLUTION`, because it has no direction.
- s is undefined if a step evaluates anything else, because its direction is not that of plain guidance: autoguidance
  (another network), the gradient of a classifier, composed guidance of several classes (each class alone), other
  conditions, wrong timesteps. The exception is a step of autoguidance at w = 0.

Source: Xie et al. 2026 (arXiv:2602.22570) calibrate methods to plain guidance by the mean over steps of
|added prediction| / |eps_c - eps_u|. That counts what a method adds orthogonally to plain guidance as strength, and has
no sign. The projection here counts the component along plain guidance alone.
"""

import torch
from torch import Tensor

from lab.guidance.observed_step import ObservedStep
from lab.types import ClassLogits, Conditions, ImageClassifier, Images, NoisePredictor, Timesteps

RESOLUTION = 1e-5
"""The smallest norm of eps_c - eps_u that counts, relative to the norm of the larger half. Below it, the rounding of
float32 in eps would decide the projection."""


class EffectiveScale:
    """A meter of the effective guidance scale of one batch after another.

    `observed` wraps the network, `foreign` another network that the method may call, `classifying` a classifier that it
    may call, and `measured` the guided predictor made from them. After a batch is sampled, `taken` returns its sums and
    starts the next batch.
    """

    def __init__(self) -> None:
        self._step: ObservedStep | None = None
        self._sums: Tensor | None = None

    def observed(self, predictor: NoisePredictor) -> NoisePredictor:
        """Return the predictor such that its evaluations within a measured step are noted."""

        def noting(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
            predicted = predictor(x_t, timesteps, conditions)
            if self._step is not None:
                self._step.note(x_t.detach(), timesteps, conditions, predicted.detach())
            return predicted

        return noting

    def foreign(self, predictor: NoisePredictor) -> NoisePredictor:
        """Return the predictor such that a measured step that calls it has no effective scale."""

        def noting(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
            if self._step is not None:
                self._step.note_other()
            return predictor(x_t, timesteps, conditions)

        return noting

    def classifying(self, classifier: ImageClassifier) -> ImageClassifier:
        """Return the classifier such that a measured step that takes its gradient has no effective scale.

        Without its gradient, a classifier may choose how far to go, and not in which direction.
        """

        def noting(images: Images) -> ClassLogits:
            if self._step is not None and images.requires_grad:
                self._step.note_other()
            return classifier(images)

        return noting

    def measured(self, guided: NoisePredictor) -> NoisePredictor:
        """Return the guided predictor such that each call is measured as one step."""

        def measuring(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
            self._step = step = ObservedStep.at(x_t, timesteps, conditions)
            try:
                predicted = guided(x_t, timesteps, conditions)
            finally:
                self._step = None
            sums = _projection(step, predicted)
            self._sums = sums if self._sums is None else self._sums + sums
            return predicted

        return measuring

    def taken(self) -> Tensor:
        """Return the sum of the projections and the number of steps of every image since the last call, (B, 2).

        It is float64. The sum of an image is not a number if one of its steps has no effective scale.
        """
        assert self._sums is not None, "nothing was sampled since the last call"
        sums, self._sums = self._sums, None
        return sums.cpu().double()


def effective_scale(sums: Tensor) -> float | None:
    """Return the effective guidance scale of images from their rows of `EffectiveScale.taken`, or None if undefined.

    Args:
        sums: (N, 2), in the order of the images.
    """
    total, steps = sums.sum(dim=0).tolist()
    return None if steps == 0 or total != total else total / steps


def _projection(step: ObservedStep, predicted: Images) -> Tensor:
    """Return the projection of one step and whether it counts, of every image, (B, 2)."""
    wide = torch.float32 if predicted.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
    conditional, unconditional = (half.to(wide).flatten(1) for half in step.halves)
    difference = conditional - unconditional
    squared = (difference**2).sum(dim=1)
    along = ((predicted.to(wide).flatten(1) - unconditional) * difference).sum(dim=1)
    largest = torch.maximum((conditional**2).sum(dim=1), (unconditional**2).sum(dim=1))
    resolved = squared > RESOLUTION**2 * largest
    both, alone = step.evaluated[0] & step.evaluated[1], step.evaluated[0] ^ step.evaluated[1]
    # What a step returns of one half alone: 1 for the conditional half, 0 for the unconditional one.
    returned = torch.where(step.evaluated[0].view(-1, 1, 1, 1), step.halves[0], step.halves[1])
    unchanged = alone & (returned == predicted).flatten(1).all(dim=1)
    value = torch.where(both & resolved, along / squared.clamp_min(torch.finfo(wide).tiny), step.evaluated[0].to(wide))
    counts = unchanged | (both & resolved)
    undefined = step.other | ~(both | unchanged)
    value = torch.where(undefined, torch.nan, torch.where(counts, value, 0))
    return torch.stack((value, counts.to(wide)), dim=1)
