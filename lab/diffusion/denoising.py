"""Denoising: what a sampler is given, and the points of the noise schedule that it moves along."""

import math
from dataclasses import dataclass

import torch

from lab.diffusion.noise_source import NoiseSource
from lab.diffusion.schedules import NoiseSchedule
from lab.errors import LabError
from lab.types import Conditions, Images, NoisePredictor


@dataclass(frozen=True)
class Point:
    """A point of the noise schedule: a timestep, or the clean image.

    Args:
        timestep: t; -1 is the clean image.
        alpha: amount of image.
        sigma: amount of noise.
    """

    timestep: int
    alpha: float
    sigma: float

    @property
    def log_snr_half(self) -> float:
        """lambda = log(alpha / sigma), half the log signal-to-noise ratio."""
        return math.log(self.alpha / self.sigma)


CLEAN = Point(timestep=-1, alpha=1.0, sigma=0.0)


def timestep_grid(timesteps: int, sampling_steps: int) -> list[int]:
    """Return `sampling_steps` timesteps from T - 1 down, evenly spaced so that the next after the last would be -1.

    Raises:
        LabError: more steps than timesteps.
    """
    if sampling_steps > timesteps:
        raise LabError(f"--sampler.sampling-steps is {sampling_steps}; allowed is at most the {timesteps} timesteps")
    return [round(timesteps * (sampling_steps - i) / sampling_steps) - 1 for i in range(sampling_steps)]


@dataclass(frozen=True)
class Denoising:
    """What a sampler is given: a batch of images to denoise, and the means.

    Args:
        predictor: predicts the noise; guidance, if any, is already around it.
        schedule: the noise schedule that the predictor was trained on.
        conditions: (B, K), on the device to compute on.
        noise: starting noise and, for stochastic samplers, the noise of each step.
    """

    predictor: NoisePredictor
    schedule: NoiseSchedule
    conditions: Conditions
    noise: NoiseSource

    def draw(self) -> Images:
        """Return the next noise of every image, (B, C, H, W), on the device of the conditions."""
        return self.noise.draw().to(self.conditions.device, non_blocking=True)

    def point(self, timestep: int) -> Point:
        """Return the point of the schedule at a timestep."""
        return Point(timestep, float(self.schedule.alpha[timestep]), float(self.schedule.sigma[timestep]))

    def points(self, sampling_steps: int) -> list[Point]:
        """Return `sampling_steps` points of falling timesteps, then the clean image; see `timestep_grid`."""
        return [*map(self.point, timestep_grid(self.schedule.timesteps, sampling_steps)), CLEAN]

    def clean(self, x_t: Images, here: Point, clamp: bool) -> Images:
        """Return the clean images predicted from x_t, by one call of the predictor, clamped to [-1, 1] if told so."""
        eps = self.predictor(x_t, torch.full((len(x_t),), here.timestep), self.conditions)
        x_0 = (x_t - here.sigma * eps) / here.alpha
        return x_0.clamp(-1, 1) if clamp else x_0
