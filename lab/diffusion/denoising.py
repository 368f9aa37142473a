"""Denoising: the inputs of a sampler, and the points of the noise schedule that it steps through."""

import math
from dataclasses import dataclass

import torch

from lab.diffusion.noise_source import NoiseSource
from lab.diffusion.schedules import NoiseSchedule
from lab.errors import LabError
from lab.types import Conditions, Images, NoisePredictor


@dataclass(frozen=True)
class Point:
    """A point of the noise schedule: a timestep, or the end of sampling, most often the clean image.

    Args:
        timestep: t, or -1 for the end.
        alpha: amount of image.
        sigma: amount of noise.
    """

    timestep: int
    alpha: float
    sigma: float

    @property
    def is_end(self) -> bool:
        """Whether sampling ends here."""
        return self.timestep < 0

    @property
    def log_snr_half(self) -> float:
        """lambda = log(alpha / sigma), half the log signal-to-noise ratio."""
        return math.log(self.alpha / self.sigma)


def timestep_grid(timesteps: int, sampling_steps: int) -> list[int]:
    """Return `sampling_steps` timesteps in falling order, evenly spaced from T - 1, such that the next would be -1.

    Raises:
        LabError: there are more sampling steps than timesteps.
    """
    if sampling_steps > timesteps:
        raise LabError(f"--sampler.sampling-steps is {sampling_steps}; use at most as many as timesteps, {timesteps}")
    return [round(timesteps * (sampling_steps - i) / sampling_steps) - 1 for i in range(sampling_steps)]


@dataclass(frozen=True)
class Beginning:
    """Images that sampling starts from instead of noise alone (Meng et al. 2022).

    Args:
        x_0: (B, C, H, W), clean, on the device of the conditions.
        timestep: t of x_t = alpha_t x_0 + sigma_t noise, where sampling starts.
    """

    x_0: Images
    timestep: int


@dataclass(frozen=True)
class Denoising:
    """The inputs of a sampler for one batch of images.

    Args:
        predictor: the noise predictor, with guidance already applied.
        schedule: the noise schedule that the predictor was trained on.
        conditions: (B, K), on the device to compute on.
        noise: the starting noise and, for stochastic samplers, the noise of each step.
        beginning: noised images to start from; by default sampling starts from noise alone at the last timestep.
    """

    predictor: NoisePredictor
    schedule: NoiseSchedule
    conditions: Conditions
    noise: NoiseSource
    beginning: Beginning | None = None

    def start(self) -> Images:
        """Return x at the first point: noise, or the noised images of the beginning."""
        if self.beginning is None:
            return self.draw()
        x_0, timestep = self.beginning.x_0, self.beginning.timestep
        return self.schedule.noised(x_0, torch.full((len(x_0),), timestep), self.draw())

    def draw(self) -> Images:
        """Draw the next noise of every image, (B, C, H, W), on the device of the conditions."""
        return self.noise.draw().to(self.conditions.device, non_blocking=True)

    def point(self, timestep: int) -> Point:
        """Return the point of the schedule at a timestep."""
        return Point(timestep, float(self.schedule.alpha[timestep]), float(self.schedule.sigma[timestep]))

    def points(self, sampling_steps: int) -> list[Point]:
        """Return the points at the timesteps of `timestep_grid`, followed by the end of the schedule.

        With a beginning, its timestep comes first, then those of the grid that lie below it.
        """
        grid = timestep_grid(self.schedule.timesteps, sampling_steps)
        if self.beginning is not None:
            first = self.beginning.timestep
            grid = [first, *(timestep for timestep in grid if timestep < first)]
        return [*map(self.point, grid), Point(-1, *self.schedule.end)]

    def clean(self, x_t: Images, here: Point, clamp: bool) -> Images:
        """Predict the clean images from x_t with one call of the predictor; `clamp` limits them to [-1, 1]."""
        eps = self.predictor(x_t, torch.full((len(x_t),), here.timestep), self.conditions)
        x_0 = (x_t - here.sigma * eps) / here.alpha
        return x_0.clamp(-1, 1) if clamp else x_0
