"""Distilled guidance (Meng et al. 2023, arXiv:2210.03142): a student that has learned the guided prediction.

    eps = student(x_t, t, y, w),    in place of (1 + w) eps_conditional - w eps_unconditional of its teacher

The student takes w as an input, so a step costs one network evaluation at every w. It is defined for the w that the
student was trained at. Other networks do not have this input. Neutral: w = 0.
"""

from dataclasses import dataclass
from typing import ClassVar

from lab.guidance.method import Facts, Unguided
from lab.networks.distilled_unet import with_weight
from lab.types import Conditions, Images, NoisePredictor, Timesteps


@dataclass(frozen=True)
class DistilledGuidance:
    """A student at one guidance weight. It is a noise predictor itself."""

    student: NoisePredictor
    weight: float

    def __call__(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Return the guided noise, shaped like x_t, of one evaluation."""
        if self.weight == 0:  # which a student takes without the input, as any network
            return self.student(x_t, timesteps, conditions)
        return self.student(x_t, timesteps, with_weight(conditions, self.weight))


@dataclass(frozen=True)
class DistilledMethod:
    """`distilled`: a student that takes w as an input. It has no settings."""

    facts: ClassVar[Facts] = Facts(for_students=True)

    def guide(self, unguided: Unguided, weight: float) -> NoisePredictor:
        """Return the noise predictor guided at weight w."""
        return DistilledGuidance(unguided.predictor, weight)
