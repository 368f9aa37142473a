"""diffusers' schedulers as samplers (extra [diffusers]). diffusers calls a sampler a scheduler.

They use the lab's alpha_bar, a prediction of the noise, and the lab's spacing of timesteps. If the number of sampling
steps does not divide T, some schedulers use steps of T // steps, slightly off that spacing. Only DDPM and DDIM can
clamp.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from lab.configuration.diffusion import (
    DiffusersDDIMConfig,
    DiffusersDDPMConfig,
    DiffusersDPMSolverConfig,
    DiffusersUniPCConfig,
)
from lab.diffusion.denoising import Denoising
from lab.diffusion.schedules import NoiseSchedule
from lab.errors import LabError
from lab.types import Images

CLASS_NAMES: dict[type, str] = {
    DiffusersDDPMConfig: "DDPMScheduler",
    DiffusersDDIMConfig: "DDIMScheduler",
    DiffusersDPMSolverConfig: "DPMSolverMultistepScheduler",
    DiffusersUniPCConfig: "UniPCMultistepScheduler",
}
"""diffusers' class for each kind."""


def betas(schedule: NoiseSchedule) -> list[float]:
    """Return beta_t = 1 - alpha_bar_t / alpha_bar_{t-1} of a noise schedule."""
    before = torch.cat((torch.ones(1, dtype=torch.float64), schedule.alpha_bar[:-1]))
    values: list[float] = (1 - schedule.alpha_bar / before).tolist()
    return values


def scheduler(config: Any, schedule: NoiseSchedule) -> Any:
    """Return diffusers' scheduler for these settings and this noise schedule.

    Raises:
        LabError: diffusers is not installed, or the noise schedule does not preserve variance, or does not end at the
            clean image.
    """
    try:
        import diffusers
    except ImportError:
        raise LabError(
            f"--sampler.kind {config.kind} needs the package diffusers, which is not installed; "
            f"run: pip install -e '.[diffusers]'"
        ) from None
    if not schedule.preserves_variance:
        raise LabError(
            f"--sampler.kind {config.kind} needs a variance-preserving noise schedule, and this one is not; "
            f"choose from ancestral, ddim, dpm_solver"
        )
    if not schedule.ends_clean:
        raise LabError(
            f"--sampler.kind {config.kind} ends at the clean image, and with --schedule.extra-beta sampling ends at "
            f"alpha_bar_0; choose from ancestral, ddim, dpm_solver"
        )
    return getattr(diffusers, CLASS_NAMES[type(config)])(
        num_train_timesteps=schedule.timesteps,
        trained_betas=betas(schedule),
        prediction_type="epsilon",
        timestep_spacing="trailing",
        **({"clip_sample": config.clamp} if hasattr(config, "clamp") else {}),
    )


def scheduler_moments(config: Any, images: Denoising) -> Iterator[Images]:
    """Yield x at every moment from starting noise to finished images; see `lab.diffusion.samplers.moments`."""
    if images.beginning is not None:
        raise LabError(
            f"--sampler.kind {config.kind} starts from noise alone; to start from an image, choose from ancestral, "
            f"ddim, dpm_solver"
        )
    stepper = scheduler(config, images.schedule)
    stepper.set_timesteps(config.sampling_steps)
    # diffusers rounds the trailing spacing from floats, so some numbers of steps give a further timestep of -1.
    timesteps = [int(t) for t in stepper.timesteps if t >= 0]
    x_t = images.draw()
    # Only the stochastic scheduler draws more noise, for each image from its own generator.
    drawing = {"generator": images.noise.generators} if isinstance(config, DiffusersDDPMConfig) else {}
    yield x_t
    for t in timesteps:
        eps = images.predictor(x_t, torch.full((len(x_t),), t), images.conditions)
        x_t = stepper.step(eps, t, x_t, **drawing).prev_sample
        yield x_t


DIFFUSERS_SAMPLERS: dict[type, Callable[[Any, Denoising], Iterator[Images]]] = dict.fromkeys(
    CLASS_NAMES, scheduler_moments
)
