"""CFG-Zero* (Fan et al. 2025, arXiv:2503.18886), its optimized scale: the unconditional half, scaled to fit the other.

    s = <eps_c, eps_u> / |eps_u|^2,    eps = s eps_u + (1 + w) (eps_c - s eps_u)

s is taken over each image. s eps_u is the multiple of eps_u that is closest to eps_c, so a network whose unconditional
half is too weak or too strong does not guide along its own error. Neutral: w = 0.

The source is about flow matching, where the halves are velocities; here they are predictions of noise, as in diffusers'
guider with a network that predicts noise. Its second part, zero-init, leaves out the velocity of the first steps. It is
not here: without a prediction of noise a step has no clean image.
"""

from dataclasses import dataclass
from typing import ClassVar

from lab.guidance.classifier_free import AdjustedGuidance
from lab.guidance.method import Facts, Unguided
from lab.types import Images, NoisePredictor


def fitted(conditional: Images, unconditional: Images) -> Images:
    """Return the multiple of the unconditional half that is closest to the conditional one, of each image."""
    along = (conditional * unconditional).sum(dim=(1, 2, 3), keepdim=True)
    squared = (unconditional**2).sum(dim=(1, 2, 3), keepdim=True)
    return along / squared.clamp_min(1e-12) * unconditional


@dataclass(frozen=True)
class ZeroStarMethod:
    """`zero_star`: CFG-Zero* without zero-init. It has no settings."""

    facts: ClassVar[Facts] = Facts()

    def guide(self, unguided: Unguided, weight: float) -> NoisePredictor:
        """Return the noise predictor guided at weight w."""
        return AdjustedGuidance(unguided.predictor, weight, fitted)
