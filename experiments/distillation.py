"""Distillation in an experiment: the teacher, its student's settings, and the teacher's place in the student's sweep.

The teacher's file is copied to `teacher.pt` beside the student's checkpoints, so that both are swept from one folder.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from experiments.configuration import Experiment, require_steps
from lab.configuration.distillation import TEACHER
from lab.configuration.networks import student_weights
from lab.errors import LabError

if TYPE_CHECKING:
    from lab.guidance.methods import NamedMethod
    from lab.training.checkpoints import Checkpoint
    from lab.training.runs import KeptCheckpoint


def teacher_of(experiment: Experiment) -> Checkpoint | None:
    """Return the checkpoint that an experiment distils, or None.

    Raises:
        LabError: it cannot be read.
    """
    from lab.training.checkpoints import read_checkpoint

    if (path := experiment.distillation.teacher) is None:
        return None
    if not (experiment.root / path).exists():
        raise LabError(f"--distillation.teacher {path}: no such checkpoint; train it first, or give another one")
    return read_checkpoint(experiment.root / path)


def of_student(experiment: Experiment) -> Experiment:
    """Return an experiment that distils with the network and noise schedule of its student.

    Raises:
        LabError: the teacher cannot be read or distilled.
    """
    from lab.guidance.methods import named_methods
    from lab.training.distillation import student_of

    if (teacher := teacher_of(experiment)) is None:
        return experiment
    distillation = experiment.distillation
    others = [named for named in named_methods(experiment.guidance.method) if not named.method.facts.for_students]
    if student_weights(teacher.denoiser) is not None and others:
        raise LabError(
            f"the teacher, {distillation.teacher}, is itself a student, and only --guidance.method distilled samples "
            f"from students; give that method alone"
        )
    student = student_of(teacher, distillation.guidance_weights, distillation.sampling_steps)
    print(
        f"the network and noise schedule are of {distillation.teacher}; --denoiser and --schedule options are not used",
        file=sys.stderr,
    )
    require_steps(experiment.sampler.sampling_steps, teacher.schedule.timesteps)
    return replace(experiment, denoiser=student, schedule=teacher.schedule)  # type: ignore[arg-type]  # a file may hold any kind


def require_guidance_of_students(experiment: Experiment, methods: list[NamedMethod]) -> None:
    """Raise LabError unless a method samples from the student, if there is one, and the others fit its teacher."""
    from lab.sweep.fit import require_student_fit

    denoiser, weights = experiment.denoiser, experiment.sweep.guidance_weights
    of_student = [named for named in methods if named.method.facts.for_students]
    sampled_from_denoiser = methods if student_weights(denoiser) is None or not of_student else of_student
    for named in sampled_from_denoiser:
        require_student_fit(denoiser, named, weights, experiment.sampler)
    for named in methods:
        if of_student and named.method.facts.needs_weaker and experiment.weak_checkpoint is None:
            raise LabError(
                f"--guidance.method {named.name} guides by an earlier checkpoint of the same training, and a teacher "
                f"has none beside it; give --weak-checkpoint, or remove the method"
            )


def swept_teacher(experiment: Experiment, methods: list[NamedMethod]) -> KeptCheckpoint | None:
    """Return the teacher as a checkpoint of its student's sweep, its file copied; None if no method samples from it.

    Raises:
        LabError: the file cannot be copied.
    """
    from lab.machine.files import digest, whole_file
    from lab.training.checkpoints import read_checkpoint
    from lab.training.runs import KeptCheckpoint

    path = experiment.distillation.teacher
    if path is None or all(named.method.facts.for_students for named in methods):
        return None
    theirs, copy = experiment.root / path, experiment.swept_checkpoints / f"{TEACHER}.pt"
    if not copy.exists() or digest(copy) != digest(theirs):
        with whole_file(copy) as temporary:
            shutil.copyfile(theirs, temporary)
    teacher = read_checkpoint(copy)
    return KeptCheckpoint(copy, teacher.epoch, teacher.step)
