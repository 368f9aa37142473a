"""Guidance in a limited interval of noise levels (Kynkaanniemi et al. 2024, arXiv:2404.07724, equation 5).

    w(sigma) = w where low < sigma <= high, and 0 elsewhere,    sigma = sqrt((1 - alpha_bar) / alpha_bar)

sigma is the noise level of a signal that is not scaled down, as in EDM; log-SNR is -2 log sigma. Neutral: all sigma.
"""

from dataclasses import dataclass

from lab.diffusion.schedules import NoiseSchedule
from lab.guidance.classifier_free import ClassifierFreeGuidance
from lab.types import Conditions, Images, NoisePredictor, Timesteps


@dataclass(frozen=True)
class LimitedInterval:
    """Guidance at weight w inside the interval; outside it only the conditional half is computed.

    Args:
        predictor: the noise predictor.
        weight: w inside the interval.
        low, high: ends of the interval in sigma.
        schedule: the one the predictor was trained on.
    """

    predictor: NoisePredictor
    weight: float
    low: float
    high: float
    schedule: NoiseSchedule

    def __call__(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Return the guided noise, shaped like x_t; all images are at one timestep."""
        alpha_bar = float(self.schedule.alpha_bar[timesteps[0]])
        sigma = ((1 - alpha_bar) / alpha_bar) ** 0.5
        if not self.low < sigma <= self.high:
            return self.predictor(x_t, timesteps, conditions)
        return ClassifierFreeGuidance(self.predictor, self.weight)(x_t, timesteps, conditions)
