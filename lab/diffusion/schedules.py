"""Noise schedules: the amounts of image and noise in x_t at every timestep.

    x_t = alpha[t] x_0 + sigma[t] noise,    t = 0 ... T - 1

Timestep 0 is the least noisy, as in diffusers. The coursework's t = 1 ... T is this t plus one; its t = 0, where its
sampling ends, is the `end` of the schedule, and everywhere else the end is the clean image. Most schedules preserve
variance, alpha^2 + sigma^2 = 1. `alpha_bar = alpha^2` defines them, the product of `1 - beta` up to and including t (Ho
et al. 2020, equation 4). The tutorials' corruption does not preserve variance: alpha = 1 - amount, sigma = amount, with
uniform noise. Objectives, guidance and samplers use only alpha and sigma, so they work with every schedule.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from lab.configuration.diffusion import (
    BetasScheduleConfig,
    CorruptionScheduleConfig,
    CosineScheduleConfig,
    CyclicCosineScheduleConfig,
    LinearScheduleConfig,
    ScheduleConfig,
)
from lab.diffusion.noise_source import NoiseDraw, normal, uniform
from lab.errors import LabError
from lab.types import Images, Timesteps

PerTimestep = Float64[Tensor, "timestep"]

PURE_NOISE_ALPHA_BAR = 1e-3
"""The largest alpha_bar_T that counts as pure noise. Above it, sampling starts from noise that training never sees."""


@dataclass(frozen=True)
class NoiseSchedule:
    """The amounts of image and noise at each timestep.

    Args:
        alpha: amount of image, shape (T,), float64, in (0, 1); alpha / sigma is strictly decreasing.
        sigma: amount of noise, shape (T,), float64, above 0.
        draw: draws the noise.
        end: alpha and sigma where sampling ends, below timestep 0; by default those of the clean image.
    """

    alpha: PerTimestep
    sigma: PerTimestep
    draw: NoiseDraw = normal
    end: tuple[float, float] = (1.0, 0.0)

    @property
    def ends_clean(self) -> bool:
        """Whether sampling ends at the clean image."""
        return self.end[1] == 0

    @property
    def timesteps(self) -> int:
        """T, the number of timesteps."""
        return len(self.alpha)

    @property
    def alpha_bar(self) -> PerTimestep:
        """The image's share of the variance, alpha^2 / (alpha^2 + sigma^2)."""
        share: PerTimestep = self.alpha**2 / (self.alpha**2 + self.sigma**2)
        return share

    @property
    def preserves_variance(self) -> bool:
        """Whether alpha^2 + sigma^2 = 1 at every timestep."""
        return bool(torch.isclose(self.alpha**2 + self.sigma**2, torch.ones_like(self.alpha)).all())

    def noised(self, x_0: Images, timesteps: Timesteps, noise: Images) -> Images:
        """Return x_t = alpha_t x_0 + sigma_t noise, shaped like x_0."""
        alpha, sigma = self.amounts(timesteps, x_0)
        return alpha * x_0 + sigma * noise

    def denoised(self, x_t: Images, timesteps: Timesteps, noise: Images) -> Images:
        """Return the clean images x_0 = (x_t - sigma_t noise) / alpha_t, shaped like x_t."""
        alpha, sigma = self.amounts(timesteps, x_t)
        return (x_t - sigma * noise) / alpha

    def amounts(self, timesteps: Timesteps, images: Images) -> tuple[Tensor, Tensor]:
        """Return alpha_t and sigma_t, (B, 1, 1, 1) each, with the device and dtype of the images."""
        # Index before the move to the device: MPS has no float64.
        chosen = timesteps.to(self.alpha.device)
        alpha, sigma = (amounts[chosen].view(-1, 1, 1, 1) for amounts in (self.alpha, self.sigma))
        return alpha.to(images, non_blocking=True), sigma.to(images, non_blocking=True)

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw noise of this shape."""
        return self.draw(shape, generator)

    def warning(self) -> str | None:
        """Return a warning if the last timestep is not pure noise, else None."""
        left = float(self.alpha_bar[-1])
        if left <= PURE_NOISE_ALPHA_BAR:
            return None
        return (
            f"this noise schedule leaves alpha_bar_T = {left:.2g} of the signal variance at its last timestep, but "
            f"sampling starts from pure noise, which training never sees; raise --schedule.timesteps or "
            f"--schedule.beta-end, or use --schedule.kind cosine"
        )


def variance_preserving(alpha_bar: PerTimestep) -> NoiseSchedule:
    """Return the schedule with alpha = sqrt(alpha_bar), sigma = sqrt(1 - alpha_bar) and normal noise."""
    return NoiseSchedule(alpha_bar.sqrt(), (1 - alpha_bar).sqrt())


def of_betas(betas: PerTimestep, zero_terminal: bool, extra_beta: bool = False) -> NoiseSchedule:
    """Return the schedule with alpha_bar_t = prod_{s <= t} (1 - beta_s).

    With `extra_beta`, the first beta belongs to the end of the schedule and not to a timestep.
    """
    alpha_bar = torch.cumprod(1 - betas, dim=0)
    if not extra_beta:
        return variance_preserving(with_zero_terminal(alpha_bar) if zero_terminal else alpha_bar)
    end = float(alpha_bar[0])
    schedule = variance_preserving(with_zero_terminal(alpha_bar[1:]) if zero_terminal else alpha_bar[1:])
    return replace(schedule, end=(math.sqrt(end), math.sqrt(1 - end)))


def linear_betas(config: LinearScheduleConfig) -> PerTimestep:
    """Return betas that rise linearly from beta_start to beta_end (Ho et al. 2020).

    With `extra_beta`, beta_t = beta_start + (beta_end - beta_start) t / T for t = 0 ... T.
    """
    count = config.timesteps + config.extra_beta
    return torch.linspace(config.beta_start, config.beta_end, count, dtype=torch.float64)


def cosine_betas(config: CosineScheduleConfig) -> PerTimestep:
    """Return the betas of alpha_bar = cos^2((t/T + 0.008) / 1.008 * pi/2) (Nichol & Dhariwal 2021, equation 17).

    beta is clipped to 0.999.
    """
    time = torch.arange(config.timesteps + 1, dtype=torch.float64) / config.timesteps
    alpha_bar = torch.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)


def cyclic_cosine_betas(config: CyclicCosineScheduleConfig) -> PerTimestep:
    """Return the coursework's cyclic cosine: beta starts at beta_end and is there again every 50 timesteps.

    beta_t = (beta_end - beta_start) / 2 cos(2 pi t / 50) + (beta_end + beta_start) / 2, t = 0 ... T - 1
    (to T with `extra_beta`)
    """
    swing = torch.cos(2 * math.pi * torch.arange(config.timesteps + config.extra_beta, dtype=torch.float64) / 50)
    return (config.beta_end - config.beta_start) / 2 * swing + (config.beta_end + config.beta_start) / 2


def corruption(config: CorruptionScheduleConfig) -> NoiseSchedule:
    """Return the schedule with alpha = 1 - amount, sigma = amount and uniform noise.

    The amount rises linearly from 1 / (T + 1) to T / (T + 1). With this schedule, each step of DDIM moves x_t towards
    the predicted image by 1 / (steps left) of the distance, as in the tutorials. With `extra_amount`, the amount rises
    from 2 / (T + 2), and sampling ends at 1 / (T + 2).
    """
    smallest = 1 / (config.timesteps + 1 + config.extra_amount)
    amount = torch.arange(1, config.timesteps + 1 + config.extra_amount, dtype=torch.float64) * smallest
    if not config.extra_amount:
        return NoiseSchedule(1 - amount, amount, uniform)
    return NoiseSchedule(1 - amount[1:], amount[1:], uniform, end=(1 - smallest, smallest))


SCHEDULES: dict[type, Callable[[Any], NoiseSchedule]] = {
    LinearScheduleConfig: lambda config: of_betas(linear_betas(config), config.zero_terminal, config.extra_beta),
    CosineScheduleConfig: lambda config: of_betas(cosine_betas(config), config.zero_terminal),
    CyclicCosineScheduleConfig: lambda config: of_betas(
        cyclic_cosine_betas(config), config.zero_terminal, config.extra_beta
    ),
    CorruptionScheduleConfig: corruption,
    BetasScheduleConfig: lambda config: of_betas(torch.tensor(config.betas, dtype=torch.float64), config.zero_terminal),
}
"""The noise schedules: the settings class of each kind, and the function that builds the schedule."""

SMALLEST_ALPHA = 1e-3
"""alpha at the last timestep of a zero-terminal schedule. At 0, x_0 = (x_t - sigma noise) / alpha is undefined."""


def with_zero_terminal(alpha_bar: PerTimestep) -> PerTimestep:
    """Shift and scale sqrt(alpha_bar) to end at SMALLEST_ALPHA and keep its first value (Lin 2024, algorithm 1).

    An alpha_bar that already ends at or below SMALLEST_ALPHA^2 is returned unchanged.
    """
    alpha = alpha_bar.sqrt()
    if alpha[-1] <= SMALLEST_ALPHA:
        return alpha_bar
    stretch = (alpha[0] - SMALLEST_ALPHA) / (alpha[0] - alpha[-1])
    stretched: PerTimestep = (SMALLEST_ALPHA + (alpha - alpha[-1]) * stretch) ** 2
    return stretched


def noise_schedule(config: ScheduleConfig) -> NoiseSchedule:
    """Return the noise schedule that `config` describes.

    Raises:
        LabError: the class of `config` is not in `SCHEDULES`.
    """
    if type(config) not in SCHEDULES:
        raise LabError(f"{type(config).__name__} is not a noise schedule; add it to lab.diffusion.schedules.SCHEDULES")
    return SCHEDULES[type(config)](config)
