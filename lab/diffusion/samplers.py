"""Samplers: from starting noise to an image, by calling a noise predictor.

At every timestep the predicted noise gives the predicted clean image (Song et al. 2021, equation 9)

    x_0 = (x_t - sigma_t eps) / alpha_t

and a sampler steps from timestep to timestep, and finally to the end of the schedule: the clean image, where alpha = 1
and sigma = 0, or the coursework's t = 0. A sampler receives the predictor through `Denoising`, so a higher-order
sampler may call it several times per step. Each sampler is a generator that yields x at every moment, the starting
noise first and the finished images last.
"""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch

from lab.configuration.diffusion import AncestralConfig, DDIMConfig, DPMSolverConfig, SamplerConfig
from lab.diffusion.denoising import Denoising, Point
from lab.diffusion.diffusers_samplers import DIFFUSERS_SAMPLERS
from lab.diffusion.noise_source import NoiseSource
from lab.diffusion.schedules import NoiseSchedule
from lab.errors import LabError
from lab.types import Conditions, Images, NoisePredictor


def fresh_variance(here: Point, there: Point) -> float:
    """Return the variance of the noise that q(x_t | x_s) adds: sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2."""
    return max(0.0, here.sigma**2 - (here.alpha / there.alpha * there.sigma) ** 2)


def ancestral_step(x_t: Images, x_0: Images, here: Point, there: Point, draw: Callable[[], Images]) -> Images:
    """Ancestral DDPM with variance beta_t (Ho et al. 2020, equations 6 and 7), over any jump from t to s < t.

    With r = alpha_t / alpha_s and beta = sigma_t^2 - r^2 sigma_s^2:
    x_s = (alpha_s beta x_0 + r sigma_s^2 x_t) / sigma_t^2 + sqrt(beta) noise
    The last step adds no noise. The posterior variance instead of beta gives DDIM with eta = 1.
    """
    beta = fresh_variance(here, there)
    mean = (there.alpha * beta / here.sigma**2) * x_0 + (
        here.alpha / there.alpha * there.sigma**2 / here.sigma**2
    ) * x_t
    return mean if there.is_end else mean + math.sqrt(beta) * draw()


def ddim_step(x_t: Images, x_0: Images, here: Point, there: Point, eta: float, draw: Callable[[], Images]) -> Images:
    """DDIM (Song et al. 2021, equations 12 and 16): first order, deterministic at eta = 0.

    With beta as in `ancestral_step` and variance = eta^2 beta sigma_s^2 / sigma_t^2:
    x_s = alpha_s x_0 + sqrt(sigma_s^2 - variance) eps + sqrt(variance) noise
    The last step adds no noise.
    """
    eps = (x_t - here.alpha * x_0) / here.sigma
    variance = eta**2 * fresh_variance(here, there) * there.sigma**2 / here.sigma**2
    mean = there.alpha * x_0 + math.sqrt(there.sigma**2 - variance) * eps
    return mean if variance == 0 or there.is_end else mean + math.sqrt(variance) * draw()


def dpm_solver_step(x_t: Images, x_0: Images, here: Point, there: Point, before: tuple[Point, Images] | None) -> Images:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): second order, deterministic, one evaluation per step.

    With lambda = log(alpha / sigma), h = lambda_s - lambda_t, and x_0_before and h_before of the previous step:
    D = x_0 + h / (2 h_before) (x_0 - x_0_before)
    x_s = (sigma_s / sigma_t) x_t + alpha_s (1 - exp(-h)) D
    The first step is first order, D = x_0. So is the last step, where h is infinite.
    """
    if there.sigma == 0:
        return x_0
    h = there.log_snr_half - here.log_snr_half
    if before is not None:
        h_before = here.log_snr_half - before[0].log_snr_half
        x_0 = x_0 + h / (2 * h_before) * (x_0 - before[1])
    return (there.sigma / here.sigma) * x_t - there.alpha * math.expm1(-h) * x_0


def ancestral(config: AncestralConfig, images: Denoising) -> Iterator[Images]:
    """Sample with `ancestral_step`."""
    yield (x_t := images.start())
    for here, there in pairwise(images.points(config.sampling_steps)):
        x_t = ancestral_step(x_t, images.clean(x_t, here, config.clamp), here, there, images.draw)
        yield x_t


def ddim(config: DDIMConfig, images: Denoising) -> Iterator[Images]:
    """Sample with `ddim_step`."""
    yield (x_t := images.start())
    for here, there in pairwise(images.points(config.sampling_steps)):
        x_t = ddim_step(x_t, images.clean(x_t, here, config.clamp), here, there, config.eta, images.draw)
        yield x_t


def dpm_solver(config: DPMSolverConfig, images: Denoising) -> Iterator[Images]:
    """Sample with `dpm_solver_step`."""
    before: tuple[Point, Images] | None = None
    yield (x_t := images.start())
    for here, there in pairwise(images.points(config.sampling_steps)):
        x_0 = images.clean(x_t, here, config.clamp)
        x_t = dpm_solver_step(x_t, x_0, here, there, before)
        before = here, x_0
        yield x_t


Sampler = Callable[[Any, Denoising], Iterator[Images]]

SAMPLERS: dict[type, Sampler] = {
    AncestralConfig: ancestral,
    DDIMConfig: ddim,
    DPMSolverConfig: dpm_solver,
    **DIFFUSERS_SAMPLERS,
}
"""The samplers: the settings class of each kind, and the generator that yields its moments."""


def moments(config: SamplerConfig, images: Denoising) -> Iterator[Images]:
    """Yield x at every moment from starting noise to finished images, with the sampler that `config` chooses.

    Yields:
        sampling_steps + 1 batches of shape (B, C, H, W), on the device of the conditions.

    Raises:
        LabError: the class of `config` is not in `SAMPLERS`.
    """
    if type(config) not in SAMPLERS:
        raise LabError(f"{type(config).__name__} is not a sampler; add it to lab.diffusion.samplers.SAMPLERS")
    return SAMPLERS[type(config)](config, images)


@torch.inference_mode()
def sample(
    predictor: NoisePredictor,
    schedule: NoiseSchedule,
    config: SamplerConfig,
    conditions: Conditions,
    noise: NoiseSource,
) -> Images:
    """Return finished images, one for each condition, shape (B, C, H, W), approximately in [-1, 1].

    Args:
        predictor, schedule, conditions, noise: see `Denoising`.
        config: the settings of the sampler.
    """
    for images in moments(config, Denoising(predictor, schedule, conditions, noise)):
        finished = images
    return finished
