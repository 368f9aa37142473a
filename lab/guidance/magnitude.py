"""MAMBO-G, magnitude-aware guidance (Zhu et al. 2025, arXiv:2508.03442): less guidance where it would change more.

    r = |eps_c - eps_u| / |eps_u|,    eps = eps_u + (1 + w exp(-damping r)) (eps_c - eps_u)

The norms are taken over each image. Neutral: damping = 0.

The source is about flow matching, where the halves are velocities and r is large in the first steps. For predictions of
noise, as here and in diffusers' guider with a network that predicts noise, r is small in the first steps, where both
halves predict almost x_t.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from lab.configuration.checks import require_range
from lab.guidance.classifier_free import ClassifierFreeGuidance, mixed, two_halves
from lab.guidance.method import Facts, Unguided
from lab.types import Conditions, Images, NoisePredictor, Timesteps


@dataclass(frozen=True)
class Magnitude:
    """Guidance whose weight falls with the relative magnitude of the difference of the halves.

    Args:
        predictor: the noise predictor.
        weight: w, the weight where the halves do not differ.
        damping: how fast the weight falls with their relative difference, 0 or more.
    """

    predictor: NoisePredictor
    weight: float
    damping: float

    def __call__(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Return the guided noise, shaped like x_t."""
        if self.damping == 0 or self.weight == 0:
            return ClassifierFreeGuidance(self.predictor, self.weight)(x_t, timesteps, conditions)
        conditional, unconditional = two_halves(self.predictor, x_t, timesteps, conditions)
        change, norm = (
            torch.linalg.vector_norm(images, dim=(1, 2, 3), keepdim=True)
            for images in (conditional - unconditional, unconditional)
        )
        weight = self.weight * torch.exp(-self.damping * change / norm.clamp_min(1e-12))
        return mixed(conditional, unconditional, weight)


@dataclass(frozen=True)
class MagnitudeMethod:
    """`magnitude`: MAMBO-G.

    Args:
        damping: how fast the weight falls with the relative difference of the halves, 0 to 1000; alpha in the source.
    """

    damping: float = 8.0
    facts: ClassVar[Facts] = Facts()

    def __post_init__(self) -> None:
        require_range("guidance.method magnitude:damping", self.damping, 0, 1000)

    def guide(self, unguided: Unguided, weight: float) -> NoisePredictor:
        """Return the noise predictor guided at weight w."""
        return Magnitude(unguided.predictor, weight, self.damping)
