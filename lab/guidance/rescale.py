"""Rescaled guidance (Lin et al. 2023, arXiv:2305.08891, equations 14 to 16).

    eps = phi std(eps_conditional) / std(eps_cfg) eps_cfg + (1 - phi) eps_cfg

std is taken over each image. Guidance raises the standard deviation of the prediction, which oversaturates images;
rescaling lowers it again. Neutral: phi = 0.
"""

from dataclasses import dataclass
from typing import ClassVar

from lab.configuration.checks import require_range
from lab.guidance.classifier_free import ClassifierFreeGuidance, mixed, two_halves
from lab.guidance.method import Facts, Unguided
from lab.types import Conditions, Images, NoisePredictor, Timesteps


@dataclass(frozen=True)
class Rescale:
    """Classifier-free guidance at weight w, rescaled towards the conditional standard deviation by a share phi."""

    predictor: NoisePredictor
    weight: float
    phi: float

    def __call__(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Return the guided noise, shaped like x_t."""
        if self.phi == 0:
            return ClassifierFreeGuidance(self.predictor, self.weight)(x_t, timesteps, conditions)
        conditional, unconditional = two_halves(self.predictor, x_t, timesteps, conditions)
        guided = mixed(conditional, unconditional, self.weight)
        width, guided_width = (eps.std(dim=(1, 2, 3), keepdim=True) for eps in (conditional, guided))
        return self.phi * (width / guided_width) * guided + (1 - self.phi) * guided


@dataclass(frozen=True)
class RescaleMethod:
    """`rescale`: plain guidance, rescaled towards the standard deviation of the conditional prediction.

    Args:
        phi: share of the added standard deviation to remove, 0 to 1.
    """

    phi: float = 0.7
    facts: ClassVar[Facts] = Facts()

    def __post_init__(self) -> None:
        require_range("guidance.method rescale:phi", self.phi, 0, 1)

    def guide(self, unguided: Unguided, weight: float) -> NoisePredictor:
        """Return the noise predictor guided at weight w."""
        return Rescale(unguided.predictor, weight, self.phi)
