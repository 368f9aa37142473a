"""Noise schedules: how much of the image is left at every timestep.

    x_t = sqrt(alpha_bar[t]) x_0 + sqrt(1 - alpha_bar[t]) noise,    t = 0 ... T - 1

`alpha_bar[t]` is the product of `1 - beta` up to and including t (Ho et al. 2020, equation 4). Timestep 0 is the
least noisy, as in diffusers; the coursework's t = 1 ... T is this t plus one.

The tutorials begin with another corruption, (1 - amount) image + amount noise with noise uniform in [-1, 1]. Over
sqrt((1 - amount)^2 + amount^2) it is the x_t of the alpha_bar with the same ratio of image to noise, so that objectives
and samplers need not know of it: DDIM moves such an x_t by 1 / (steps left) of its way to the predicted image, as the
tutorials do. Only networks are shown the corrupted image itself.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from lab.configuration.diffusion import ScheduleConfig
from lab.types import Images, Timesteps

PerTimestep = Float64[Tensor, "timestep"]

PURE_NOISE_ALPHA_BAR = 1e-3
"""Above this share of signal at the last timestep, training never sees the pure noise that sampling starts from."""


@dataclass(frozen=True)
class NoiseSchedule:
    """The share of signal variance left at each timestep.

    Args:
        alpha_bar: shape (T,), float64, strictly falling, in (0, 1).
        mixture: True where networks are shown x_t over the sum of both amounts, so that image and noise have shares
            that add up to 1, and the noise is uniform in [-1, 1]; elsewhere it is normal.
    """

    alpha_bar: PerTimestep
    mixture: bool = False

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
        signal, spread = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        return signal.to(images, non_blocking=True), spread.to(images, non_blocking=True)

    def shown(self, x_t: Images, timesteps: Timesteps) -> Images:
        """Return what a network is shown of x_t, shaped like it."""
        return x_t / sum(self.amounts(timesteps, x_t)) if self.mixture else x_t

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw noise of this shape, normal or uniform in [-1, 1]."""
        if self.mixture:
            return 2 * torch.rand(shape, generator=generator) - 1
        return torch.randn(shape, generator=generator)

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


def linear_betas(config: ScheduleConfig) -> PerTimestep:
    """beta rises linearly from beta_start to beta_end (Ho et al. 2020)."""
    return torch.linspace(config.beta_start, config.beta_end, config.timesteps, dtype=torch.float64)


def cosine_betas(config: ScheduleConfig) -> PerTimestep:
    """alpha_bar follows cos^2((t/T + 0.008) / 1.008 * pi/2), beta clipped at 0.999 (Nichol & Dhariwal 2021, eq. 17)."""
    time = torch.arange(config.timesteps + 1, dtype=torch.float64) / config.timesteps
    alpha_bar = torch.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)


def cyclic_cosine_betas(config: ScheduleConfig) -> PerTimestep:
    """The coursework's cyclic cosine: beta swings between beta_start and beta_end with a period of 50 timesteps.

    beta_t = beta_start + (beta_end - beta_start) (1 - cos(2 pi t / 50)) / 2
    """
    swing = (1 - torch.cos(2 * math.pi * torch.arange(config.timesteps, dtype=torch.float64) / 50)) / 2
    return config.beta_start + (config.beta_end - config.beta_start) * swing


def corruption_alpha_bar(config: ScheduleConfig) -> PerTimestep:
    """alpha_bar of the mixture (1 - amount) image + amount noise: (1 - amount)^2 / ((1 - amount)^2 + amount^2).

    The amount rises evenly from 1 / (T + 1) to T / (T + 1).
    """
    amount = torch.arange(1, config.timesteps + 1, dtype=torch.float64) / (config.timesteps + 1)
    return (1 - amount) ** 2 / ((1 - amount) ** 2 + amount**2)


def _product(betas: Callable[[ScheduleConfig], PerTimestep]) -> Callable[[ScheduleConfig], PerTimestep]:
    """alpha_bar_t = prod_{s <= t} (1 - beta_s)"""
    return lambda config: torch.cumprod(1 - betas(config), dim=0)


ALPHA_BARS: dict[str, Callable[[ScheduleConfig], PerTimestep]] = {
    "linear": _product(linear_betas),
    "cosine": _product(cosine_betas),
    "cyclic_cosine": _product(cyclic_cosine_betas),
    "corruption": corruption_alpha_bar,
}

SMALLEST_SIGNAL = 1e-3
"""sqrt(alpha_bar) of a last timestep that is to be noise alone; at 0 no prediction of noise says what the image is."""


def with_zero_terminal(alpha_bar: PerTimestep) -> PerTimestep:
    """Shift and stretch sqrt(alpha_bar) to end at SMALLEST_SIGNAL and begin where it did (Lin 2024, algorithm 1).

    One that ends below it already is left as it is.
    """
    signal = alpha_bar.sqrt()
    if signal[-1] <= SMALLEST_SIGNAL:
        return alpha_bar
    stretch = (signal[0] - SMALLEST_SIGNAL) / (signal[0] - signal[-1])
    stretched: PerTimestep = (SMALLEST_SIGNAL + (signal - signal[-1]) * stretch) ** 2
    return stretched


def noise_schedule(config: ScheduleConfig) -> NoiseSchedule:
    """Return the noise schedule a configuration names."""
    alpha_bar = ALPHA_BARS[config.kind](config)
    mixture = config.kind == "corruption"
    return NoiseSchedule(with_zero_terminal(alpha_bar) if config.zero_terminal else alpha_bar, mixture)
