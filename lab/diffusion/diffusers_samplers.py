"""diffusers' schedulers as samplers of this lab (extra [diffusers]): what they call a scheduler is a sampler here.

They are given the lab's own alpha_bar, a prediction of the noise, and timesteps spaced as the lab's are. Where the
number of steps does not divide T, some of theirs are T // steps long, a little off the spacing. Only DDPM and DDIM have
a clamping to turn on and off.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from lab.configuration.diffusion import SamplerConfig
from lab.diffusion.noise_source import NoiseSource
from lab.diffusion.schedules import NoiseSchedule
from lab.errors import LabError
from lab.types import Conditions, Images, NoisePredictor

SCHEDULERS: dict[str, tuple[str, Callable[[SamplerConfig], dict[str, Any]]]] = {
    "diffusers_ddpm": ("DDPMScheduler", lambda config: {"clip_sample": config.clamp}),
    "diffusers_ddim": ("DDIMScheduler", lambda config: {"clip_sample": config.clamp}),
    "diffusers_dpm_solver": ("DPMSolverMultistepScheduler", lambda config: {}),
    "diffusers_unipc": ("UniPCMultistepScheduler", lambda config: {}),
}
"""The class of each, and what it is told beside the noise schedule."""


def betas(schedule: NoiseSchedule) -> list[float]:
    """Return beta_t = 1 - alpha_bar_t / alpha_bar_{t-1} of a noise schedule."""
    before = torch.cat((torch.ones(1, dtype=torch.float64), schedule.alpha_bar[:-1]))
    found: list[float] = (1 - schedule.alpha_bar / before).tolist()
    return found


def scheduler(name: str, config: SamplerConfig, schedule: NoiseSchedule) -> Any:
    """Return diffusers' scheduler of this name in the lab, on this noise schedule.

    Raises:
        LabError: diffusers is not installed.
    """
    try:
        import diffusers
    except ImportError:
        raise LabError(
            f"--sampler.kind {name} is the package diffusers', which is not installed; "
            f"run: pip install -e '.[diffusers]'"
        ) from None
    class_name, settings = SCHEDULERS[name]
    return getattr(diffusers, class_name)(
        num_train_timesteps=schedule.timesteps,
        trained_betas=betas(schedule),
        prediction_type="epsilon",
        timestep_spacing="trailing",
        **settings(config),
    )


def scheduler_moments(
    predictor: NoisePredictor,
    schedule: NoiseSchedule,
    config: SamplerConfig,
    conditions: Conditions,
    noise: NoiseSource,
) -> Iterator[Images]:
    """Yield x at every moment from starting noise to finished images; see `lab.diffusion.samplers.moments`."""
    stepper = scheduler(config.kind, config, schedule)
    stepper.set_timesteps(config.sampling_steps)
    # Its trailing spacing is rounded from floats, and at some numbers of steps goes on to a timestep of -1.
    timesteps = [int(t) for t in stepper.timesteps if t >= 0]
    x_t = noise.draw().to(conditions.device)
    # Only the stochastic one draws more noise: each image's from its own generator.
    drawing = {"generator": noise.generators} if config.kind == "diffusers_ddpm" else {}
    yield x_t
    for t in timesteps:
        eps = predictor(x_t, torch.full((len(x_t),), t), conditions)
        x_t = stepper.step(eps, t, x_t, **drawing).prev_sample
        yield x_t
