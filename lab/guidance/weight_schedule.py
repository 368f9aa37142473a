"""Guidance weights that change with t.

With u = t / (T - 1), which is 1 at pure noise and 0 at the image:

    constant     w(t) = w
    linear       w(t) = 2 w (1 - u)
    cosine       w(t) = w (1 + cos(pi u))
    clamped      w(t) = max(smallest, 2 w (1 - u))
    beta         1 + w(t) = (1 + w) p(1 - u), where p is the density of the beta distribution (a, b)
    exponential  1 + w(t) = (1 + w) exp(rate (1 - u))

Sources: Wang et al. 2024 (arXiv:2404.13040, table 1) up to `clamped`; `beta` is the curve of beta-CFG (Malarz et al.
2025, arXiv:2502.10574) without its division by the norm of the difference; `exponential` is C2FG (Gao et al. 2026,
arXiv:2603.08155, equation 14). The last two multiply the guidance scale 1 + w, as in their sources: `beta` is
unconditional where its density is 0, and `exponential` guides at w = 0 too.

The mean over u is w, apart from the effect of clamping, and for `exponential`, which has 1 + w at pure noise and
exp(rate) times that at the image. All but `constant` and `beta` guide more as the noise decreases. Neutral: constant;
beta with a = b = 1; exponential with rate = 0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from lab.configuration.checks import require_range
from lab.errors import LabError, nearest
from lab.guidance.classifier_free import ClassifierFreeGuidance
from lab.guidance.method import Facts, Unguided
from lab.types import Conditions, Images, NoisePredictor, Timesteps


@dataclass(frozen=True)
class WeightSchedule:
    """Classifier-free guidance with a weight that is a function of t.

    Args:
        predictor: the noise predictor.
        weight_at: the weight as a function of u.
        timesteps: T of the noise schedule.
    """

    predictor: NoisePredictor
    weight_at: Callable[[float], float]
    timesteps: int

    def __call__(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Return the guided noise, shaped like x_t. All images must be at the same timestep."""
        weight = self.weight_at(float(timesteps[0]) / (self.timesteps - 1))
        return ClassifierFreeGuidance(self.predictor, weight)(x_t, timesteps, conditions)


@dataclass(frozen=True)
class ScheduleMethod:
    """`schedule`: plain guidance with a weight that changes with t.

    Args:
        shape: constant, linear, cosine, clamped, beta or exponential.
        smallest: the smallest weight of the clamped shape, -1 to 100.
        a, b: the parameters of the beta shape, 1 to 50: larger a guides less at pure noise, larger b less at the image.
        rate: how fast the exponential shape grows, 0 to 10; ln 2 for the source's DiT.
    """

    shape: str = "linear"
    smallest: float = 1.0
    a: float = 2.0
    b: float = 2.0
    rate: float = 0.7
    facts: ClassVar[Facts] = Facts()

    def __post_init__(self) -> None:
        if self.shape not in WEIGHT_SHAPES:
            near = nearest(self.shape, WEIGHT_SHAPES)
            raise LabError(
                f"--guidance.method schedule has shape={self.shape}; choose from {', '.join(WEIGHT_SHAPES)}{near}"
            )
        require_range("guidance.method schedule:smallest", self.smallest, -1, 100)
        require_range("guidance.method schedule:a", self.a, 1, 50)
        require_range("guidance.method schedule:b", self.b, 1, 50)
        require_range("guidance.method schedule:rate", self.rate, 0, 10)

    def guide(self, unguided: Unguided, weight: float) -> NoisePredictor:
        """Return the noise predictor guided at weight w."""
        weight_at = partial(WEIGHT_SHAPES[self.shape], self, weight)
        return WeightSchedule(unguided.predictor, weight_at, unguided.schedule.timesteps)


def _scaled(weight: float, factor: float) -> float:
    """Return the weight whose scale 1 + w is `factor` times that of this weight, to the bit at factors 1 and 0."""
    return weight if factor == 1 else (1 + weight) * factor - 1


def _beta_density(a: float, b: float, place: float) -> float:
    """Return the density of the beta distribution (a, b) at a place from 0 to 1."""
    logarithm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return math.exp(logarithm) * math.pow(place, a - 1) * math.pow(1 - place, b - 1)


WEIGHT_SHAPES: dict[str, Callable[[ScheduleMethod, float, float], float]] = {
    "constant": lambda settings, weight, u: weight,
    "linear": lambda settings, weight, u: 2 * weight * (1 - u),
    "cosine": lambda settings, weight, u: weight * (1 + math.cos(math.pi * u)),
    "clamped": lambda settings, weight, u: max(settings.smallest, 2 * weight * (1 - u)),
    "beta": lambda settings, weight, u: _scaled(weight, _beta_density(settings.a, settings.b, 1 - u)),
    "exponential": lambda settings, weight, u: _scaled(weight, math.exp(settings.rate * (1 - u))),
}
"""The weight as a function of the settings, w and u."""
