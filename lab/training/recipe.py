"""Recipes: all that decides a training but its images."""

from dataclasses import dataclass, field

from lab.configuration.diffusion import CosineScheduleConfig, ScheduleConfig
from lab.configuration.networks import ContextUnetConfig, DenoiserConfig
from lab.configuration.training import TrainingConfig
from lab.training.checkpoints import Checkpoint


@dataclass(frozen=True)
class Recipe:
    """What is trained, and how.

    Args:
        denoiser: the network, and what it predicts.
        schedule: the noise schedule.
        training: the optimizer, the loss, the EMA and the number of epochs.
        seed: of the initial weights and all randomness of training.
        teacher: the checkpoint to distil, on whose noise schedule the denoiser that
            `lab.training.distillation.student_of` describes is trained; by default nothing is distilled.
    """

    denoiser: DenoiserConfig = field(default_factory=ContextUnetConfig)
    schedule: ScheduleConfig = field(default_factory=CosineScheduleConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    seed: int = 0
    teacher: Checkpoint | None = None
