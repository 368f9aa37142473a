"""CFG++ (Chung et al. 2024, arXiv:2406.08070, algorithm 2), for deterministic DDIM.

    eps = eps_u + s (eps_c - eps_u),  s in [0, 1];    x_next = alpha_next x_0(eps) + sigma_next eps_u

The clean image comes from the guided prediction, and the noise that is added back is the unconditional prediction. DDIM
adds back the prediction it is given, so for DDIM this is plain guidance with a scale that depends on the step (the
paper's equation 13):

    s(t) = s cos(phi_next) sin(phi) / sin(phi - phi_next),    tan(phi) = sigma / alpha

The sampler therefore needs no change. The two forms are equal if predicted clean images are not clamped.
Neutral: s = 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lab.diffusion.schedules import NoiseSchedule
from lab.guidance.classifier_free import mixed, null_conditions, two_halves
from lab.guidance.method import Facts, Unguided
from lab.types import Conditions, Images, NoisePredictor, Timesteps


@dataclass(frozen=True)
class PlusPlus:
    """CFG++ at scale s = 1 + w, from 0 (unconditional) to 1 (the conditional clean image).

    Args:
        predictor: the noise predictor.
        weight: w, from -1 to 0.
        schedule: the noise schedule that the predictor was trained on.
        grid: the timesteps of the sampler, in falling order.
    """

    predictor: NoisePredictor
    weight: float
    schedule: NoiseSchedule
    grid: Sequence[int]

    def __call__(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Return the guided noise, shaped like x_t. All images must be at the same timestep of the grid."""
        if self.weight == -1:
            return self.predictor(x_t, timesteps, null_conditions(conditions))
        place = self.grid.index(int(timesteps[0]))
        ends = place + 1 == len(self.grid)
        phi = self._angle(self.grid[place])
        following = _angle(*self.schedule.end) if ends else self._angle(self.grid[place + 1])
        scale = (1 + self.weight) * math.cos(following) * math.sin(phi) / math.sin(phi - following)
        return mixed(*two_halves(self.predictor, x_t, timesteps, conditions), scale - 1)

    def _angle(self, t: int) -> float:
        return _angle(float(self.schedule.alpha[t]), float(self.schedule.sigma[t]))


def _angle(alpha: float, sigma: float) -> float:
    return math.atan2(sigma, alpha)


@dataclass(frozen=True)
class PlusPlusMethod:
    """`plus_plus`: CFG++. It has no settings."""

    facts: ClassVar[Facts] = Facts(
        weights=(-1.0, 0.0), samplers=("ddim",), without_clamping=True, unconditional_at=-1.0
    )

    def guide(self, unguided: Unguided, weight: float) -> NoisePredictor:
        """Return the noise predictor guided at weight w."""
        return PlusPlus(unguided.predictor, weight, unguided.schedule, unguided.grid)
