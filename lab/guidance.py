"""Guidance: noise predictors made of a noise predictor.

Classifier-free guidance (Ho & Salimans 2022, equation 6) mixes the conditional and the unconditional prediction,

    eps = (1 + w) eps_conditional - w eps_unconditional

w is the guidance weight: -1 unconditional, 0 conditional, above 0 guided. The guidance scale s = 1 + w of diffusers
and EDM2 is the same number counted from the unconditional prediction: eps = eps_u + s (eps_c - eps_u).
"""

from dataclasses import dataclass

import torch

from lab.types import Conditions, Images, NoisePredictor, Timesteps


def null_conditions(conditions: Conditions) -> Conditions:
    """Return the null condition for every row: "no label asked", a row of zeros."""
    return torch.zeros_like(conditions)


@dataclass(frozen=True)
class ClassifierFreeGuidance:
    """Plain classifier-free guidance at one weight for all timesteps; itself a noise predictor.

    Both halves go through the predictor as one batch. At w = 0 and at w = -1 only the half that counts is computed.
    """

    predictor: NoisePredictor
    weight: float

    def __call__(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Return (1 + w) eps_conditional - w eps_unconditional, shaped like x_t."""
        if self.weight == 0:
            return self.predictor(x_t, timesteps, conditions)
        if self.weight == -1:
            return self.predictor(x_t, timesteps, null_conditions(conditions))
        both = self.predictor(
            torch.cat((x_t, x_t)),
            torch.cat((timesteps, timesteps)),
            torch.cat((conditions, null_conditions(conditions))),
        )
        conditional, unconditional = both.chunk(2)
        return (1 + self.weight) * conditional - self.weight * unconditional


class EvaluationCounter:
    """A noise predictor that counts: `evaluations` grows by one for every image put through the network.

    Wrapped around the network, inside any guidance, it gives the true cost of a method, whatever the method skips.
    """

    def __init__(self, predictor: NoisePredictor) -> None:
        self.predictor = predictor
        self.evaluations = 0

    def __call__(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Count the rows of x_t and pass the call on."""
        self.evaluations += len(x_t)
        return self.predictor(x_t, timesteps, conditions)
