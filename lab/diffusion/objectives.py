"""Objectives: what the denoiser's output is taken for, and how it becomes a prediction of the noise.

With x_t = alpha x_0 + sigma noise, a denoiser may predict

    noise    the noise itself (Ho et al. 2020, arXiv:2006.11239)
    x_0      the clean image,    noise = (x_t - alpha x_0) / sigma
    v        alpha noise - sigma x_0 (Salimans & Ho 2022, arXiv:2202.00512),
             noise = (sigma x_t + alpha v) / (alpha^2 + sigma^2)

Guidance and samplers are handed a prediction of the noise, whichever it was. Where nearly all is noise, an error of the
predicted noise is multiplied on its way to the clean image, and one of v is not: flat backgrounds come out flat. Clean
images of few objects hold little, noise holds much: a small network has room to predict the one and not the other.

Training weighs the squared error of each timestep. With SNR = alpha^2 / sigma^2, an error of the noise is one
of x_0 times SNR, and one of v is one of x_0 times SNR + 1; so weights are told as those of the error of x_0:

    as_predicted        of whatever is predicted: SNR, SNR + 1 or 1
    min_snr             min(SNR, largest) (Hang et al. 2023, arXiv:2303.09556)
    min_snr_plus_one    min(SNR + 1, largest), which does not forget the timesteps where all is noise
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
"""What is predicted, of (x_0, noise, alpha, sigma)."""

NOISES: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "noise": lambda _x_t, predicted, _alpha, _sigma: predicted,
    "x_0": lambda x_t, predicted, alpha, sigma: (x_t - alpha * predicted) / sigma,
    "v": lambda x_t, predicted, alpha, sigma: (sigma * x_t + alpha * predicted) / (alpha**2 + sigma**2),
}
"""The noise, of (x_t, what was predicted, alpha, sigma)."""


def target(prediction: str, x_0: Images, noise: Images, timesteps: Timesteps, schedule: NoiseSchedule) -> Images:
    """Return what a denoiser of this kind is to predict at these timesteps, shaped like x_0."""
    return TARGETS[prediction](x_0, noise, *schedule.amounts(timesteps, x_0))


ERRORS: dict[str, Callable[[Tensor], Tensor]] = {
    "noise": lambda snr: snr,
    "x_0": torch.ones_like,
    "v": lambda snr: snr + 1,
}
"""The squared error of what is predicted over that of x_0, of SNR."""

WEIGHTINGS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "min_snr": lambda snr, largest: snr.clamp(max=largest),
    "min_snr_plus_one": lambda snr, largest: (snr + 1).clamp(max=largest),
}
"""The weight of the squared error of x_0, of (SNR, largest)."""


def loss_weights(
    prediction: str, weighting: str, largest: float, timesteps: Timesteps, schedule: NoiseSchedule
) -> SampleWeights:
    """Return the weight of the squared error of what is predicted, (B,): that of x_0 over `ERRORS`."""
    if weighting == "as_predicted":
        return torch.ones(len(timesteps))
    snr = (schedule.alpha[timesteps] / schedule.sigma[timesteps]) ** 2
    return (WEIGHTINGS[weighting](snr, largest) / ERRORS[prediction](snr)).float()


@dataclass(frozen=True)
class AsNoisePredictor:
    """A denoiser whose output is taken for `prediction`, as a noise predictor."""

    denoiser: NoisePredictor
    prediction: str
    schedule: NoiseSchedule

    def __call__(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Predict the noise in x_t, shaped like x_t."""
        predicted = self.denoiser(x_t, timesteps, conditions)
        return NOISES[self.prediction](x_t, predicted, *self.schedule.amounts(timesteps, x_t))
