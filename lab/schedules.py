"""Noise schedules: how much of the image is left at every timestep.

    x_t = sqrt(alpha_bar[t]) x_0 + sqrt(1 - alpha_bar[t]) noise,    t = 0 ... T - 1

`alpha_bar[t]` is the product of `1 - beta` up to and including t (Ho et al. 2020, equation 4). Timestep 0 is the
least noisy, as in diffusers; the coursework's t = 1 ... T is this t plus one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from lab.configuration import ScheduleConfig
from lab.types import Images, Timesteps

Betas = Float64[Tensor, "timestep"]

PURE_NOISE_ALPHA_BAR = 1e-3
"""Above this share of signal at the last timestep, training never sees the pure noise that sampling starts from."""


@dataclass(frozen=True)
class NoiseSchedule:
    """The share of signal variance left at each timestep.

    Args:
        alpha_bar: shape (T,), float64, strictly falling, in (0, 1).
    """

    alpha_bar: Betas

    @property
    def timesteps(self) -> int:
        """T, the number of timesteps."""
        return len(self.alpha_bar)

    def noised(self, x_0: Images, timesteps: Timesteps, noise: Images) -> Images:
        """Return x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise, shaped like x_0."""
        signal, spread = self.amounts(timesteps, x_0)
        return signal * x_0 + spread * noise

    def amounts(self, timesteps: Timesteps, images: Images) -> tuple[Tensor, Tensor]:
        """Return sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t), (B, 1, 1, 1) each, on the device of the images.

        alpha_bar is taken to float32 last: near t = 0 its difference from 1 has few digits there.
        """
        # Indexed where it is: a GPU of some makers has no float64.
        alpha_bar = self.alpha_bar[timesteps.to(self.alpha_bar.device)].view(-1, 1, 1, 1)
        return alpha_bar.sqrt().to(images), (1 - alpha_bar).sqrt().to(images)

    def warning(self) -> str | None:
        """Say in words that the last timestep is not yet noise, or return None where it is."""
        left = float(self.alpha_bar[-1])
        if left <= PURE_NOISE_ALPHA_BAR:
            return None
        return (
            f"this noise schedule leaves alpha_bar_T = {left:.2g} of the signal variance at its last timestep, and "
            f"sampling starts from pure noise, which training never saw; raise --schedule.timesteps or "
            f"--schedule.beta-end, or take --schedule.kind cosine"
        )


def linear_betas(config: ScheduleConfig) -> Betas:
    """beta rises linearly from beta_start to beta_end (Ho et al. 2020)."""
    return torch.linspace(config.beta_start, config.beta_end, config.timesteps, dtype=torch.float64)


def cosine_betas(config: ScheduleConfig) -> Betas:
    """alpha_bar follows cos^2((t/T + 0.008) / 1.008 * pi/2), beta clipped at 0.999 (Nichol & Dhariwal 2021, eq. 17)."""
    time = torch.arange(config.timesteps + 1, dtype=torch.float64) / config.timesteps
    alpha_bar = torch.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)


def cyclic_cosine_betas(config: ScheduleConfig) -> Betas:
    """The coursework's cyclic cosine: beta swings between beta_start and beta_end with a period of 50 timesteps.

    beta_t = beta_start + (beta_end - beta_start) (1 - cos(2 pi t / 50)) / 2
    """
    swing = (1 - torch.cos(2 * math.pi * torch.arange(config.timesteps, dtype=torch.float64) / 50)) / 2
    return config.beta_start + (config.beta_end - config.beta_start) * swing


BETAS: dict[str, Callable[[ScheduleConfig], Betas]] = {
    "linear": linear_betas,
    "cosine": cosine_betas,
    "cyclic_cosine": cyclic_cosine_betas,
}


def noise_schedule(config: ScheduleConfig) -> NoiseSchedule:
    """Return the noise schedule a configuration names: alpha_bar_t = prod_{s <= t} (1 - beta_s)."""
    return NoiseSchedule(torch.cumprod(1 - BETAS[config.kind](config), dim=0))
