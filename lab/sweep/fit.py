"""Checks that a sampler, guidance methods, a noise schedule and a vocabulary are compatible, before a sweep runs."""

from collections.abc import Sequence

from lab.configuration.diffusion import SamplerConfig
from lab.data.labels import ClassVocabulary
from lab.diffusion.denoising import timestep_grid
from lab.diffusion.diffusers_samplers import DIFFUSERS_SAMPLERS, scheduler
from lab.diffusion.schedules import NoiseSchedule
from lab.guidance.method import Unguided
from lab.guidance.methods import NamedMethod
from lab.types import Conditions, Images, Timesteps


def require_fit(
    sampler: SamplerConfig, methods: Sequence[NamedMethod], schedule: NoiseSchedule, vocabulary: ClassVocabulary
) -> None:
    """Raise LabError unless the sampler works with the noise schedule and every method works with both.

    Args:
        sampler: the settings of the sampler.
        methods: the guidance methods.
        schedule: the noise schedule that the denoiser was trained on.
        vocabulary: the classes of the conditions; a method's settings may name them.
    """
    grid = timestep_grid(schedule.timesteps, sampler.sampling_steps)
    if type(sampler) in DIFFUSERS_SAMPLERS:
        scheduler(sampler, schedule)

    def nothing(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        return x_t

    for named in methods:
        named.require_sampler(sampler)
        named.method.guide(Unguided(nothing, nothing, schedule, grid, vocabulary), 0.0)
