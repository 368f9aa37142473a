"""Settings of distillation: the teacher, and the guidance weights and sampling steps that the student learns."""

from dataclasses import dataclass
from pathlib import Path

from lab.configuration.checks import require_range
from lab.configuration.networks import require_student_range
from lab.errors import LabError

TEACHER = "teacher"
"""The teacher's name among the checkpoints of its student's sweep."""


@dataclass(frozen=True)
class DistillationConfig:
    """Distillation of a checkpoint into a student that takes w as an input: one evaluation a step instead of two."""

    teacher: Path | None = None
    """The checkpoint to distil; none by default. The student has its network and noise schedule. --guidance.method
    distilled samples from the student, every other method from the teacher."""
    guidance_weights: tuple[float, float] = (0.0, 4.0)
    """The lowest and the highest w that the student learns."""
    sampling_steps: int = 0
    """DDIM steps that the student learns to sample in, each of them two of its teacher's; by default it learns what its
    teacher predicts, for any sampler. The teacher of 4 steps may be a student itself, of 8 or of any number."""

    def __post_init__(self) -> None:
        require_student_range(self.guidance_weights)
        require_range("distillation.sampling_steps", self.sampling_steps, 0)
        for flag, value, default in (
            ("guidance-weights", self.guidance_weights, DistillationConfig.guidance_weights),
            ("sampling-steps", self.sampling_steps, DistillationConfig.sampling_steps),
        ):
            if self.teacher is None and value != default:
                raise LabError(f"--distillation.{flag} needs --distillation.teacher; add it, or remove the flag")
