"""Samplers: from starting noise to an image, by calling a noise predictor.

At every timestep the predicted noise gives the predicted clean image (Song et al. 2021, equation 9)

    x_0 = (x_t - sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_bar_t)

and a stepper moves from alpha_bar_t to the alpha_bar of the next timestep on the grid; after the last one
alpha_bar = 1, the clean image. A stepper knows two points and nothing of the grid; the grid nothing of the stepper.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lab.configuration.diffusion import SamplerConfig
from lab.diffusion.diffusers_samplers import SCHEDULERS, scheduler_moments
from lab.diffusion.noise_source import NoiseSource
from lab.diffusion.schedules import NoiseSchedule
from lab.errors import LabError
from lab.types import Conditions, Images, NoisePredictor


@dataclass(frozen=True)
class Point:
    """Where a trajectory stands: the signal share at a timestep and the clean image predicted there.

    Args:
        alpha_bar: share of signal variance, in (0, 1).
        x_0: predicted clean images, shape (B, C, H, W).
    """

    alpha_bar: float
    x_0: Images

    @property
    def signal(self) -> float:
        """sqrt(alpha_bar)"""
        return math.sqrt(self.alpha_bar)

    @property
    def sigma(self) -> float:
        """sqrt(1 - alpha_bar)"""
        return math.sqrt(1 - self.alpha_bar)

    @property
    def log_snr_half(self) -> float:
        """lambda = log(signal / sigma), half the log signal-to-noise ratio"""
        return math.log(self.signal / self.sigma)


Draw = Callable[[], Images]
Stepper = Callable[[Images, Point, Point | None, float, Draw], Images]
"""(x_t, point at t, point before it or None, alpha_bar of the next timestep, fresh noise) -> x at the next timestep."""


def ancestral_step(x_t: Images, here: Point, before: Point | None, next_alpha_bar: float, draw: Draw) -> Images:
    """Ancestral DDPM with variance beta_t (Ho et al. 2020, equations 6 and 7), over any jump from t to s < t.

    With alpha = alpha_bar_t / alpha_bar_s and beta = 1 - alpha:
    x_s = (sqrt(alpha_bar_s) beta x_0 + sqrt(alpha) (1 - alpha_bar_s) x_t) / (1 - alpha_bar_t) + sqrt(beta) noise,
    without noise where s is the clean image. The posterior variance instead of beta is DDIM with eta = 1.
    """
    alpha = here.alpha_bar / next_alpha_bar
    variance_t = 1 - here.alpha_bar
    mean = (math.sqrt(next_alpha_bar) * (1 - alpha) / variance_t) * here.x_0 + (
        math.sqrt(alpha) * (1 - next_alpha_bar) / variance_t
    ) * x_t
    if next_alpha_bar == 1:
        return mean
    return mean + math.sqrt(1 - alpha) * draw()


def ddim_step(eta: float) -> Stepper:
    """DDIM (Song et al. 2021, equations 12 and 16): first order, deterministic at eta = 0.

    sigma = eta sqrt((1 - alpha_bar_s) / (1 - alpha_bar_t)) sqrt(1 - alpha_bar_t / alpha_bar_s)
    x_s = sqrt(alpha_bar_s) x_0 + sqrt(1 - alpha_bar_s - sigma^2) eps + sigma noise
    """

    def step(x_t: Images, here: Point, before: Point | None, next_alpha_bar: float, draw: Draw) -> Images:
        eps = (x_t - here.signal * here.x_0) / here.sigma
        variance = eta**2 * (1 - next_alpha_bar) / (1 - here.alpha_bar) * (1 - here.alpha_bar / next_alpha_bar)
        x_s = math.sqrt(next_alpha_bar) * here.x_0 + math.sqrt(1 - next_alpha_bar - variance) * eps
        return x_s + math.sqrt(variance) * draw() if variance > 0 else x_s

    return step


def dpm_solver_step(x_t: Images, here: Point, before: Point | None, next_alpha_bar: float, draw: Draw) -> Images:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): second order, deterministic, one evaluation a step.

    With lambda = log(signal / sigma), h = lambda_s - lambda_t and h_before the step before:
    D = x_0 + h / (2 h_before) (x_0 - x_0_before)
    x_s = (sigma_s / sigma_t) x_t + signal_s (1 - exp(-h)) D
    The first step and the last one, where h is infinite, are first order: D = x_0.
    """
    if next_alpha_bar == 1:
        return here.x_0
    there = Point(next_alpha_bar, here.x_0)
    h = there.log_snr_half - here.log_snr_half
    x_0 = here.x_0
    if before is not None:
        h_before = here.log_snr_half - before.log_snr_half
        x_0 = x_0 + h / (2 * h_before) * (x_0 - before.x_0)
    return (there.sigma / here.sigma) * x_t - there.signal * math.expm1(-h) * x_0


STEPPERS: dict[str, Callable[[SamplerConfig], Stepper]] = {
    "ancestral": lambda config: ancestral_step,
    "ddim": lambda config: ddim_step(config.eta),
    "dpm_solver": lambda config: dpm_solver_step,
}


def timestep_grid(timesteps: int, sampling_steps: int) -> list[int]:
    """Return `sampling_steps` timesteps from T - 1 down, evenly spaced so that the next after the last would be -1.

    Raises:
        LabError: more steps than timesteps.
    """
    if sampling_steps > timesteps:
        raise LabError(f"--sampler.sampling-steps is {sampling_steps}; allowed is at most the {timesteps} timesteps")
    return [round(timesteps * (sampling_steps - i) / sampling_steps) - 1 for i in range(sampling_steps)]


def trajectory(
    predictor: NoisePredictor,
    schedule: NoiseSchedule,
    stepper: Stepper,
    grid: Sequence[int],
    conditions: Conditions,
    noise: NoiseSource,
    clamp: bool,
) -> Iterator[Images]:
    """Yield x at every timestep of the grid, the starting noise first and the finished images last.

    Args:
        predictor: predicts the noise; guidance, where wanted, is already around it.
        schedule: the noise schedule the predictor was trained on.
        stepper: one of STEPPERS.
        grid: falling timesteps.
        conditions: (B, K), on the device to compute on.
        noise: starting noise and, for stochastic steppers, the noise of each step.
        clamp: clamp every predicted clean image to [-1, 1].

    Yields:
        len(grid) + 1 batches of shape (B, C, H, W), on the device of `conditions`.
    """
    device = conditions.device
    alpha_bars = [float(schedule.alpha_bar[t]) for t in grid] + [1.0]

    def draw() -> Tensor:
        return noise.draw().to(device, non_blocking=True)

    x_t = draw()
    before: Point | None = None
    yield x_t
    for t, alpha_bar, next_alpha_bar in zip(grid, alpha_bars, alpha_bars[1:], strict=False):
        eps = predictor(x_t, torch.full((len(x_t),), t), conditions)
        x_0 = (x_t - math.sqrt(1 - alpha_bar) * eps) / math.sqrt(alpha_bar)
        here = Point(alpha_bar, x_0.clamp(-1, 1) if clamp else x_0)
        x_t = stepper(x_t, here, before, next_alpha_bar, draw)
        before = here
        yield x_t


def moments(
    predictor: NoisePredictor,
    schedule: NoiseSchedule,
    config: SamplerConfig,
    conditions: Conditions,
    noise: NoiseSource,
) -> Iterator[Images]:
    """Yield x at every moment from starting noise to finished images, by the sampler of a configuration.

    Args: see `trajectory`; the configuration names the sampler, the number of steps and the clamping.

    Yields:
        sampling_steps + 1 batches of shape (B, C, H, W).
    """
    if config.kind in SCHEDULERS:
        yield from scheduler_moments(predictor, schedule, config, conditions, noise)
    else:
        grid = timestep_grid(schedule.timesteps, config.sampling_steps)
        yield from trajectory(predictor, schedule, STEPPERS[config.kind](config), grid, conditions, noise, config.clamp)


@torch.inference_mode()
def sample(
    predictor: NoisePredictor,
    schedule: NoiseSchedule,
    config: SamplerConfig,
    conditions: Conditions,
    noise: NoiseSource,
) -> Images:
    """Return finished images, one for each condition, shape (B, C, H, W), about in [-1, 1].

    Args: see `moments`.
    """
    for images in moments(predictor, schedule, config, conditions, noise):
        finished = images
    return finished
