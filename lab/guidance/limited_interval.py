"""Guidance in a limited interval of noise levels (Kynkaanniemi et al. 2024, arXiv:2404.07724, equation 5).

    w(sigma / alpha) = w if low < sigma / alpha <= high, else 0

sigma / alpha is EDM's noise level, that of an image at full scale. The log-SNR is -2 log(sigma / alpha).
Neutral: low = 0, high = infinity.
"""

from dataclasses import dataclass
from typing import ClassVar

from lab.diffusion.schedules import NoiseSchedule
from lab.errors import LabError
from lab.guidance.classifier_free import ClassifierFreeGuidance
from lab.guidance.method import Facts, Unguided
from lab.types import Conditions, Images, NoisePredictor, Timesteps


@dataclass(frozen=True)
class LimitedInterval:
    """Guidance at weight w inside the interval. Outside it, only the conditional half is computed.

    Args:
        predictor: the noise predictor.
        weight: w inside the interval.
        low, high: the ends of the interval, in sigma / alpha.
        schedule: the noise schedule that the predictor was trained on.
    """

    predictor: NoisePredictor
    weight: float
    low: float
    high: float
    schedule: NoiseSchedule

    def __call__(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Return the guided noise, shaped like x_t. All images must be at the same timestep."""
        t = timesteps[0]
        if not self.low < float(self.schedule.sigma[t] / self.schedule.alpha[t]) <= self.high:
            return self.predictor(x_t, timesteps, conditions)
        return ClassifierFreeGuidance(self.predictor, self.weight)(x_t, timesteps, conditions)


@dataclass(frozen=True)
class IntervalMethod:
    """`interval`: plain guidance between two noise levels.

    Args:
        low, high: guidance is on while low < sigma / alpha <= high.
    """

    low: float = 0.3
    high: float = 5.0
    facts: ClassVar[Facts] = Facts()

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high:
            raise LabError(
                f"--guidance.method interval has low={self.low:g},high={self.high:g}; they must be 0 <= low <= high"
            )

    def guide(self, unguided: Unguided, weight: float) -> NoisePredictor:
        """Return the noise predictor guided at weight w."""
        return LimitedInterval(unguided.predictor, weight, self.low, self.high, unguided.schedule)
