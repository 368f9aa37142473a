"""TCFG, tangential damping (Kwon et al. 2025, arXiv:2503.18137): an unconditional half along the common direction.

With v the first right singular vector of the two rows (eps_c, eps_u), taken over each image:

    eps_t = <eps_u, v> v,    eps = eps_t + (1 + w) (eps_c - eps_t)

The second singular vector, along which the halves differ most, is removed from the unconditional half alone. Two rows
need no decomposition of their length: with the first eigenvector (cos a, sin a) of their 2 x 2 Gram matrix,

    eps_t = sin a (cos a eps_c + sin a eps_u),    tan 2a = 2 <eps_c, eps_u> / (|eps_c|^2 - |eps_u|^2)

Neutral: w = 0.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from lab.guidance.classifier_free import AdjustedGuidance
from lab.guidance.method import Facts, Unguided
from lab.types import Images, NoisePredictor


def damped(conditional: Images, unconditional: Images) -> Images:
    """Return the unconditional half along the first right singular vector of both halves, of each image."""
    twice_along = 2 * (conditional * unconditional).sum(dim=(1, 2, 3), keepdim=True)
    # The difference of the squared norms, without the loss of digits of a difference of two large sums.
    larger = ((conditional - unconditional) * (conditional + unconditional)).sum(dim=(1, 2, 3), keepdim=True)
    angle = torch.atan2(twice_along, larger) / 2
    return angle.sin() * (angle.cos() * conditional + angle.sin() * unconditional)


@dataclass(frozen=True)
class TangentialMethod:
    """`tangential`: TCFG. It has no settings."""

    facts: ClassVar[Facts] = Facts()

    def guide(self, unguided: Unguided, weight: float) -> NoisePredictor:
        """Return the noise predictor guided at weight w."""
        return AdjustedGuidance(unguided.predictor, weight, damped)
