"""TSG, time-step guidance (Sadat et al. 2025, arXiv:2407.02687, equation 8): away from a network with a wrong timestep.

    eps = (1 + w) eps(x_t, t, y) - w eps(x_t, t', y)
    t' = t + s T (t / T)^alpha n,  n ~ N(0, 1)

n is drawn for each image and step. The network gets t' instead of t and x_t stays the same, so its prediction removes
too much noise or too little, and guidance moves away from both. To first order it adds noise along the derivative of
the prediction by t (equation 9). Neither the null condition nor a condition is needed. Neutral: w = 0.

The source adds the noise to the embedding of t, whose place and scale differ from network to network. Here it is added
to t itself, as in its equations 8 to 10, rounded and limited to the timesteps 0 to T - 1. A network that is not given
the timestep predicts the same twice.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from lab.configuration.checks import require_range
from lab.diffusion.objectives import as_predicted_at
from lab.guidance.classifier_free import mixed, two_predictions
from lab.guidance.method import Facts, Unguided
from lab.types import Conditions, Images, NoisePredictor, Timesteps


@dataclass(frozen=True)
class WrongTimestep:
    """Guidance at weight w away from the network's prediction at a wrong timestep.

    Args:
        unguided: the noise predictor, its noise schedule, what its network predicts, and the images' random numbers.
        weight: w.
        spread: s, the standard deviation of t' - t as a share of T, at t = T.
        power: alpha, the power of t / T that it falls with.
    """

    unguided: Unguided
    weight: float
    spread: float
    power: float

    def __call__(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Return the guided noise, shaped like x_t. All images must be at the same timestep."""
        predictor, schedule = self.unguided.predictor, self.unguided.schedule
        if self.weight == 0:
            return predictor(x_t, timesteps, conditions)
        t, last = int(timesteps[0]), schedule.timesteps - 1
        normal = self.unguided.randomness.draw(t, lambda generator: torch.randn((), generator=generator))
        moved = self.spread * schedule.timesteps * (t / schedule.timesteps) ** self.power * normal
        wrong = (timesteps + moved.round().long()).clamp(0, last)
        right, at_wrong = two_predictions(predictor, (x_t, timesteps, conditions), (x_t, wrong, conditions))
        return mixed(
            right, as_predicted_at(self.unguided.prediction, x_t, at_wrong, wrong, timesteps, schedule), self.weight
        )


@dataclass(frozen=True)
class TimestepMethod:
    """`timestep`: time-step guidance.

    Args:
        spread: the standard deviation of the wrong timestep as a share of all timesteps, 0 to 1; s in the source.
        power: the power of t / T that it falls with, 0 to 4; alpha in the source.
    """

    spread: float = 0.05
    power: float = 1.0
    facts: ClassVar[Facts] = Facts()

    def __post_init__(self) -> None:
        require_range("guidance.method timestep:spread", self.spread, 0, 1)
        require_range("guidance.method timestep:power", self.power, 0, 4)

    def guide(self, unguided: Unguided, weight: float) -> NoisePredictor:
        """Return the noise predictor guided at weight w."""
        return WrongTimestep(unguided, weight, self.spread, self.power)
