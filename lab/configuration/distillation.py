"""Settings of distillation: the teacher, and the guidance weights that the student learns."""

from dataclasses import dataclass
from pathlib import Path

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

    def __post_init__(self) -> None:
        require_student_range(self.guidance_weights)
        if self.teacher is None and self.guidance_weights != DistillationConfig.guidance_weights:
            raise LabError(
                "--distillation.guidance-weights needs --distillation.teacher; add it, or remove the weights"
            )
