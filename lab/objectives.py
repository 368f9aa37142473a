"""Objectives: what the denoiser's output is taken for, and how it becomes a prediction of the noise.

With x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise, a denoiser may predict

    noise    the noise itself (Ho et al. 2020, arXiv:2006.11239)
    x_0      the clean image,    noise = (x_t - sqrt(alpha_bar) x_0) / sqrt(1 - alpha_bar)
    v        sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) x_0 (Salimans & Ho 2022, arXiv:2202.00512),
             noise = sqrt(1 - alpha_bar) x_t + sqrt(alpha_bar) v

Guidance and samplers are handed a prediction of the noise, whichever it was. Where nearly all is noise, an error of the
predicted noise is multiplied on its way to the clean image, and one of v is not: flat backgrounds come out flat.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from lab.schedules import NoiseSchedule
from lab.types import Conditions, Images, NoisePredictor, Timesteps

TARGETS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "noise": lambda _x_0, noise, _signal, _spread: noise,
    "x_0": lambda x_0, _noise, _signal, _spread: x_0,
    "v": lambda x_0, noise, signal, spread: signal * noise - spread * x_0,
}
"""What is predicted, of (x_0, noise, sqrt(alpha_bar), sqrt(1 - alpha_bar))."""

NOISES: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "noise": lambda _x_t, predicted, _signal, _spread: predicted,
    "x_0": lambda x_t, predicted, signal, spread: (x_t - signal * predicted) / spread,
    "v": lambda x_t, predicted, signal, spread: spread * x_t + signal * predicted,
}
"""The noise, of (x_t, what was predicted, sqrt(alpha_bar), sqrt(1 - alpha_bar))."""


def target(prediction: str, x_0: Images, noise: Images, timesteps: Timesteps, schedule: NoiseSchedule) -> Images:
    """Return what a denoiser of this kind is to predict at these timesteps, shaped like x_0."""
    return TARGETS[prediction](x_0, noise, *schedule.amounts(timesteps, x_0))


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
