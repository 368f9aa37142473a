"""diffusers' schedulers as samplers of this lab (extra [diffusers]): what they call a scheduler is a sampler here.

They get the lab's own alpha_bar, a prediction of the noise, and timesteps spaced as the lab's are. Where the number of
steps does not divide T, some of theirs are T // steps long, a little off the spacing. Only DDPM and DDIM can clamp.
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
"""diffusers' class of each kind."""


def betas(schedule: NoiseSchedule) -> list[float]:
    """Return beta_t = 1 - alpha_bar_t / alpha_bar_{t-1} of a noise schedule."""
    before = torch.cat((torch.ones(1, dtype=torch.float64), schedule.alpha_bar[:-1]))
    found: list[float] = (1 - schedule.alpha_bar / before).tolist()
    return found


def scheduler(config: Any, schedule: NoiseSchedule) -> Any:
    """Return diffusers' scheduler of these settings, on this noise schedule.

    Raises:
        LabError: diffusers is not installed, or the noise schedule does not preserve variance.
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
            f"--sampler.kind {config.kind} needs a noise schedule that preserves variance, and this one does not; "
            f"allowed are ancestral, ddim and dpm_solver"
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
    stepper = scheduler(config, images.schedule)
    stepper.set_timesteps(config.sampling_steps)
    # Its trailing spacing is rounded from floats, and at some numbers of steps goes on to a timestep of -1.
    timesteps = [int(t) for t in stepper.timesteps if t >= 0]
    x_t = images.draw()
    # Only the stochastic one draws more noise: each image's from its own generator.
    drawing = {"generator": images.noise.generators} if isinstance(config, DiffusersDDPMConfig) else {}
    yield x_t
    for t in timesteps:
        eps = images.predictor(x_t, torch.full((len(x_t),), t), images.conditions)
        x_t = stepper.step(eps, t, x_t, **drawing).prev_sample
        yield x_t


DIFFUSERS_SAMPLERS: dict[type, Callable[[Any, Denoising], Iterator[Images]]] = dict.fromkeys(
    CLASS_NAMES, scheduler_moments
)
