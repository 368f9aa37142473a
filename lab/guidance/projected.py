"""Adaptive projected guidance (Sadat et al. 2024, arXiv:2410.02416, algorithm 1), on predicted clean images.

D_c and D_u are the clean images that the conditional and the unconditional half predict.

    difference = (D_c - D_u) + momentum * (difference of the previous step)
    difference = difference * min(1, largest_norm / |difference|)
    parallel = component of difference along D_c,    orthogonal = difference - parallel
    D = D_c + w (orthogonal + eta parallel)

The parallel component mainly adds saturation. Neutral: eta = 1, momentum = 0, largest_norm = 0 (no limit).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lab.configuration.checks import require_range
from lab.diffusion.schedules import NoiseSchedule
from lab.guidance.classifier_free import ClassifierFreeGuidance, two_halves
from lab.guidance.method import Facts, Unguided
from lab.types import Conditions, Images, NoisePredictor, Timesteps


class Projected:
    """Guidance at weight w along the component orthogonal to the conditional prediction.

    It keeps the difference of the previous step. A timestep that is not smaller than the last one starts a new
    trajectory and discards that difference.

    Args:
        predictor: the noise predictor.
        weight: w.
        eta: share of the parallel component to keep.
        momentum: share of the previous difference to add; a negative value subtracts it.
        largest_norm: the largest norm of the difference over one image; 0 means no limit.
        schedule: the noise schedule that the predictor was trained on.
    """

    def __init__(
        self,
        predictor: NoisePredictor,
        weight: float,
        eta: float,
        momentum: float,
        largest_norm: float,
        schedule: NoiseSchedule,
    ) -> None:
        self.predictor = predictor
        self.weight = weight
        self.eta, self.momentum, self.largest_norm = eta, momentum, largest_norm
        self.schedule = schedule
        self.last: tuple[int, Tensor] | None = None

    def __call__(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Return the guided noise, shaped like x_t. All images must be at the same timestep."""
        if (self.eta, self.momentum, self.largest_norm) == (1, 0, 0):
            return ClassifierFreeGuidance(self.predictor, self.weight)(x_t, timesteps, conditions)
        conditional, unconditional = two_halves(self.predictor, x_t, timesteps, conditions)
        alpha, sigma = self.schedule.amounts(timesteps, x_t)
        clean = (x_t - sigma * conditional) / alpha
        difference = (sigma / alpha) * (unconditional - conditional)
        t = int(timesteps[0])
        if self.momentum and self.last is not None and t < self.last[0]:
            difference = difference + self.momentum * self.last[1]
        self.last = t, difference
        if self.largest_norm:
            norm = torch.linalg.vector_norm(difference, dim=(1, 2, 3), keepdim=True)
            difference = difference * (self.largest_norm / norm.clamp_min(self.largest_norm))
        direction = clean / torch.linalg.vector_norm(clean, dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)
        parallel = (difference * direction).sum(dim=(1, 2, 3), keepdim=True) * direction
        guided = clean + self.weight * (difference - parallel + self.eta * parallel)
        noise: Tensor = (x_t - alpha * guided) / sigma
        return noise


@dataclass(frozen=True)
class ProjectedMethod:
    """`projected`: adaptive projected guidance.

    Args:
        eta: share of the component along the conditional prediction to keep, 0 to 1.
        momentum: share of the previous step's difference to add, -0.99 to 0.99. The paper's -0.5 needs a bound on the
            first steps' predictions, such as largest_norm.
        largest_norm: the largest norm of the difference over one image; 0 means no limit.
    """

    eta: float = 0.0
    momentum: float = 0.0
    largest_norm: float = 0.0
    facts: ClassVar[Facts] = Facts()

    def __post_init__(self) -> None:
        require_range("guidance.method projected:eta", self.eta, 0, 1)
        require_range("guidance.method projected:momentum", self.momentum, -0.99, 0.99)
        require_range("guidance.method projected:largest_norm", self.largest_norm, 0)

    def guide(self, unguided: Unguided, weight: float) -> NoisePredictor:
        """Return the noise predictor guided at weight w."""
        return Projected(unguided.predictor, weight, self.eta, self.momentum, self.largest_norm, unguided.schedule)
