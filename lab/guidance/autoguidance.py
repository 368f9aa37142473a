"""Autoguidance (Karras et al. 2024, arXiv:2406.02507, equation 4): a network guided by a worse version of itself.

    eps = (1 + w) eps_conditional - w eps_weak

eps_weak is the conditional prediction of a network that is smaller or has less training. Both networks get the same
condition, so guidance moves away from poor image quality, not from other classes. Neutral: w = 0.
"""

from dataclasses import dataclass
from typing import ClassVar

from lab.guidance.classifier_free import mixed
from lab.guidance.method import Facts, Unguided
from lab.types import Conditions, Images, NoisePredictor, Timesteps


@dataclass(frozen=True)
class Autoguidance:
    """Guidance at weight w away from a weaker noise predictor."""

    predictor: NoisePredictor
    weak: NoisePredictor
    weight: float

    def __call__(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Return (1 + w) eps_conditional - w eps_weak, shaped like x_t."""
        strong = self.predictor(x_t, timesteps, conditions)
        if self.weight == 0:
            return strong
        return mixed(strong, self.weak(x_t, timesteps, conditions), self.weight)


@dataclass(frozen=True)
class AutoMethod:
    """`auto`: autoguidance. It has no settings."""

    facts: ClassVar[Facts] = Facts(needs_weaker=True)

    def guide(self, unguided: Unguided, weight: float) -> NoisePredictor:
        """Return the noise predictor guided at weight w."""
        return Autoguidance(unguided.predictor, unguided.weaker, weight)
