"""ICG, independent condition guidance (Sadat et al. 2025, arXiv:2407.02687, algorithm 1): without a null condition.

    eps = (1 + w) eps(x_t, t, y) - w eps(x_t, t, y')

y' is drawn for each image and step, uniformly from the label sets with as many classes as y has, and independently of
x_t. A condition that is independent of x_t says nothing about it, so the prediction for y' stands for the
unconditional one, on average over the draws. The network needs no null condition. Neutral: w = 0.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from lab.diffusion.noise_source import StepRandomness
from lab.guidance.classifier_free import mixed, two_predictions
from lab.guidance.method import Facts, Unguided
from lab.types import Conditions, Images, NoisePredictor, Timesteps


@dataclass(frozen=True)
class IndependentCondition:
    """Guidance at weight w away from the prediction for a random condition.

    Args:
        predictor: the noise predictor.
        weight: w.
        randomness: the random numbers of the images.
    """

    predictor: NoisePredictor
    weight: float
    randomness: StepRandomness

    def __call__(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Return the guided noise, shaped like x_t. All images must be at the same timestep."""
        if self.weight == 0:
            return self.predictor(x_t, timesteps, conditions)
        classes = conditions.shape[1]
        places = self.randomness.draw(
            int(timesteps[0]), lambda generator: torch.randperm(classes, generator=generator)
        ).to(conditions.device)
        # The classes in the first places of a random order, as many as the image has.
        independent = (places < conditions.count_nonzero(dim=1)[:, None]).to(conditions)
        halves = two_predictions(self.predictor, (x_t, timesteps, conditions), (x_t, timesteps, independent))
        return mixed(*halves, self.weight)


@dataclass(frozen=True)
class IndependentMethod:
    """`independent`: independent condition guidance. It has no settings."""

    facts: ClassVar[Facts] = Facts()

    def guide(self, unguided: Unguided, weight: float) -> NoisePredictor:
        """Return the noise predictor guided at weight w."""
        return IndependentCondition(unguided.predictor, weight, unguided.randomness)
