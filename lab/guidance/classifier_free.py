"""Plain classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598, equation 6), and its two halves.

    eps = (1 + w) eps_conditional - w eps_unconditional

w is the guidance weight: -1 is unconditional, 0 is conditional, and w > 0 is guided. diffusers and EDM2 use the
guidance scale s = 1 + w instead, which counts from the unconditional prediction: eps = eps_u + s (eps_c - eps_u).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lab.guidance.method import Facts, Unguided
from lab.types import Conditions, Images, NoisePredictor, Timesteps


def null_conditions(conditions: Conditions) -> Conditions:
    """Return the null condition, a row of zeros, for every row."""
    return torch.zeros_like(conditions)


def two_halves(
    predictor: NoisePredictor, x_t: Images, timesteps: Timesteps, conditions: Conditions
) -> tuple[Images, Images]:
    """Return the conditional and the unconditional prediction, computed as one batch."""
    return two_predictions(predictor, (x_t, timesteps, conditions), (x_t, timesteps, null_conditions(conditions)))


Inputs = tuple[Images, Timesteps, Conditions]


def two_predictions(predictor: NoisePredictor, first: Inputs, second: Inputs) -> tuple[Images, Images]:
    """Return the predictions for two inputs of as many images, computed as one batch."""
    of_first, of_second = predictor(*(torch.cat(pair) for pair in zip(first, second, strict=True))).chunk(2)
    return of_first, of_second


def mixed(conditional: Images, unconditional: Images, weight: float | Tensor) -> Images:
    """Return (1 + w) eps_conditional - w eps_unconditional; w is a number, or one number per image, (B, 1, 1, 1)."""
    return (1 + weight) * conditional - weight * unconditional


@dataclass(frozen=True)
class ClassifierFreeGuidance:
    """Plain classifier-free guidance at one weight for all timesteps. It is a noise predictor itself.

    Both halves go through the predictor as one batch. At w = 0 and w = -1 it computes only the half it needs.
    """

    predictor: NoisePredictor
    weight: float

    def __call__(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Return (1 + w) eps_conditional - w eps_unconditional, shaped like x_t."""
        if self.weight == 0:
            return self.predictor(x_t, timesteps, conditions)
        if self.weight == -1:
            return self.predictor(x_t, timesteps, null_conditions(conditions))
        return mixed(*two_halves(self.predictor, x_t, timesteps, conditions), self.weight)


@dataclass(frozen=True)
class AdjustedGuidance:
    """Guidance at weight w away from an unconditional half that is adjusted to the conditional one.

        eps = (1 + w) eps_conditional - w adjusted(eps_conditional, eps_unconditional)

    At w = 0 it computes only the conditional half.

    Args:
        predictor: the noise predictor.
        weight: w.
        adjusted: returns the adjusted unconditional half, from the conditional and the unconditional one.
    """

    predictor: NoisePredictor
    weight: float
    adjusted: Callable[[Images, Images], Images]

    def __call__(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Return the guided noise, shaped like x_t."""
        if self.weight == 0:
            return self.predictor(x_t, timesteps, conditions)
        conditional, unconditional = two_halves(self.predictor, x_t, timesteps, conditions)
        return mixed(conditional, self.adjusted(conditional, unconditional), self.weight)


@dataclass(frozen=True)
class PlainMethod:
    """`plain`: classifier-free guidance. It has no settings."""

    facts: ClassVar[Facts] = Facts(unconditional_at=-1.0)

    def guide(self, unguided: Unguided, weight: float) -> NoisePredictor:
        """Return the noise predictor guided at weight w."""
        return ClassifierFreeGuidance(unguided.predictor, weight)
