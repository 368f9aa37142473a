"""Guidance weights that change with t (Wang et al. 2024, arXiv:2404.13040, table 1).

With u = t / (T - 1), which is 1 at pure noise and 0 at the image:

    constant    w(t) = w
    linear      w(t) = 2 w (1 - u)
    cosine      w(t) = w (1 + cos(pi u))
    clamped     w(t) = max(smallest, 2 w (1 - u))

Each has the mean w over u, apart from the effect of clamping. All but `constant` guide more as the noise decreases.
Neutral: constant.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from lab.configuration.checks import require_range
from lab.errors import LabError, nearest
from lab.guidance.classifier_free import ClassifierFreeGuidance
from lab.guidance.method import Facts, Unguided
from lab.types import Conditions, Images, NoisePredictor, Timesteps

WEIGHT_SHAPES: dict[str, Callable[[float, float, float], float]] = {
    "constant": lambda weight, u, smallest: weight,
    "linear": lambda weight, u, smallest: 2 * weight * (1 - u),
    "cosine": lambda weight, u, smallest: weight * (1 + math.cos(math.pi * u)),
    "clamped": lambda weight, u, smallest: max(smallest, 2 * weight * (1 - u)),
}
"""The weight as a function of (w, u, smallest), where `smallest` is the lower bound of the clamped shape."""


@dataclass(frozen=True)
class WeightSchedule:
    """Classifier-free guidance with a weight that is a function of t.

    Args:
        predictor: the noise predictor.
        weight: w, the mean weight.
        shape: a key of `WEIGHT_SHAPES`.
        smallest: the smallest weight of the clamped shape.
        timesteps: T of the noise schedule.
    """

    predictor: NoisePredictor
    weight: float
    shape: str
    smallest: float
    timesteps: int

    def __call__(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Return the guided noise, shaped like x_t. All images must be at the same timestep."""
        u = float(timesteps[0]) / (self.timesteps - 1)
        weight = WEIGHT_SHAPES[self.shape](self.weight, u, self.smallest)
        return ClassifierFreeGuidance(self.predictor, weight)(x_t, timesteps, conditions)


@dataclass(frozen=True)
class ScheduleMethod:
    """`schedule`: plain guidance with a weight that changes with t.

    Args:
        shape: constant, linear, cosine or clamped.
        smallest: the smallest weight of the clamped shape, -1 to 100.
    """

    shape: str = "linear"
    smallest: float = 1.0
    facts: ClassVar[Facts] = Facts()

    def __post_init__(self) -> None:
        if self.shape not in WEIGHT_SHAPES:
            near = nearest(self.shape, WEIGHT_SHAPES)
            raise LabError(
                f"--guidance.method schedule has shape={self.shape}; choose from {', '.join(WEIGHT_SHAPES)}{near}"
            )
        require_range("guidance.method schedule:smallest", self.smallest, -1, 100)

    def guide(self, unguided: Unguided, weight: float) -> NoisePredictor:
        """Return the noise predictor guided at weight w."""
        return WeightSchedule(unguided.predictor, weight, self.shape, self.smallest, unguided.schedule.timesteps)
