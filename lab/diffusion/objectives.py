"""Objectives: what the denoiser's output means, and how to convert it to a prediction of the noise.

With x_t = alpha x_0 + sigma noise, a denoiser may predict

    noise    the noise itself (Ho et al. 2020, arXiv:2006.11239)
    x_0      the clean image,    noise = (x_t - alpha x_0) / sigma
    v        alpha noise - sigma x_0 (Salimans & Ho 2022, arXiv:2202.00512),
             noise = (sigma x_t + alpha v) / (alpha^2 + sigma^2)

Guidance and samplers always receive a prediction of the noise. At high noise levels, the conversion to the clean image
amplifies an error of the predicted noise but not an error of v, so v keeps flat backgrounds flat. A clean image of few
objects holds little information and noise holds much, so a small network can learn to predict x_0 but not the noise.

Training weights the squared error of each timestep. With SNR = alpha^2 / sigma^2, the squared error of the noise is
that of x_0 times SNR. The squared error of v is that of x_0 times (alpha^2 + sigma^2)^2 / sigma^2, which is SNR + 1 if
the schedule preserves the variance. The weight of the squared error of x_0:

    as_predicted        these factors: the error of the prediction (noise, x_0 or v) has weight 1
    min_snr             min(SNR, largest) (Hang et al. 2023, arXiv:2303.09556)
    min_snr_plus_one    min(SNR + 1, largest), which stays above 0 at timesteps of pure noise
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lab.diffusion.schedules import NoiseSchedule
from lab.types import Conditions, Images, NoisePredictor, SampleWeights, Timesteps

TARGETS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "noise": lambda _x_0, noise, _alpha, _sigma: noise,
    "x_0": lambda x_0, _noise, _alpha, _sigma: x_0,
    "v": lambda x_0, noise, alpha, sigma: alpha * noise - sigma * x_0,
}
"""The prediction target as a function of (x_0, noise, alpha, sigma)."""

NOISES: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "noise": lambda _x_t, predicted, _alpha, _sigma: predicted,
    "x_0": lambda x_t, predicted, alpha, sigma: (x_t - alpha * predicted) / sigma,
    "v": lambda x_t, predicted, alpha, sigma: (sigma * x_t + alpha * predicted) / (alpha**2 + sigma**2),
}
"""The noise as a function of (x_t, prediction, alpha, sigma)."""

CLEAN_IMAGES: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "noise": lambda x_t, predicted, alpha, sigma: (x_t - sigma * predicted) / alpha,
    "x_0": lambda _x_t, predicted, _alpha, _sigma: predicted,
    "v": lambda x_t, predicted, alpha, sigma: (alpha * x_t - sigma * predicted) / (alpha**2 + sigma**2),
}
"""The clean image as a function of (x_t, prediction, alpha, sigma)."""


def target(prediction: str, x_0: Images, noise: Images, timesteps: Timesteps, schedule: NoiseSchedule) -> Images:
    """Return the target of a denoiser with this prediction at these timesteps, shaped like x_0."""
    return TARGETS[prediction](x_0, noise, *schedule.amounts(timesteps, x_0))


ERRORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "noise": lambda alpha, sigma: (alpha / sigma) ** 2,
    "x_0": lambda alpha, _sigma: torch.ones_like(alpha),
    "v": lambda alpha, sigma: ((alpha**2 + sigma**2) / sigma) ** 2,
}
"""The squared error of the prediction divided by that of x_0, as a function of (alpha, sigma)."""

WEIGHTINGS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "min_snr": lambda snr, largest: snr.clamp(max=largest),
    "min_snr_plus_one": lambda snr, largest: (snr + 1).clamp(max=largest),
}
"""The weight of the squared error of x_0 as a function of (SNR, largest)."""


def loss_weights(
    prediction: str, weighting: str, largest: float, timesteps: Timesteps, schedule: NoiseSchedule
) -> SampleWeights:
    """Return the weight of the prediction's squared error, (B,): the weight for x_0 divided by `ERRORS`."""
    if weighting == "as_predicted":
        return torch.ones(len(timesteps))
    alpha, sigma = schedule.alpha[timesteps], schedule.sigma[timesteps]
    return (WEIGHTINGS[weighting]((alpha / sigma) ** 2, largest) / ERRORS[prediction](alpha, sigma)).float()


PREDICTIONS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "noise": lambda _x_t, noise, _alpha, _sigma: noise,
    "x_0": CLEAN_IMAGES["noise"],
    "v": lambda x_t, noise, alpha, sigma: ((alpha**2 + sigma**2) * noise - sigma * x_t) / alpha,
}
"""The prediction as a function of (x_t, noise, alpha, sigma), the inverse of `NOISES`."""


def as_predicted_at(
    prediction: str, x_t: Images, noise: Images, given: Timesteps, actual: Timesteps, schedule: NoiseSchedule
) -> Images:
    """Return the noise that a network predicts of x_t at one timestep if it is given another.

    Args:
        prediction: what the network's output is.
        x_t: images at the actual timesteps.
        noise: what `AsNoisePredictor` predicts of them at the given timesteps.
        given: the timesteps that the network was given.
        actual: those of x_t, by which its output becomes a prediction of the noise.
        schedule: the noise schedule.
    """
    output = PREDICTIONS[prediction](x_t, noise, *schedule.amounts(given, x_t))
    return NOISES[prediction](x_t, output, *schedule.amounts(actual, x_t))


@dataclass(frozen=True)
class AsNoisePredictor:
    """A denoiser as a noise predictor. `prediction` says what the denoiser's output is: noise, x_0 or v."""

    denoiser: NoisePredictor
    prediction: str
    schedule: NoiseSchedule

    def __call__(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Predict the noise in x_t, shaped like x_t."""
        predicted = self.denoiser(x_t, timesteps, conditions)
        return NOISES[self.prediction](x_t, predicted, *self.schedule.amounts(timesteps, x_t))
