"""Distillation (Meng et al. 2023, arXiv:2210.03142, sections 3.1 and 3.2): training a student of a guided checkpoint.

    loss = weight_t |student(x_t, t, y, w) - ((1 + w) teacher(x_t, t, y) - w teacher(x_t, t, null))|^2

x_t are noised training images and w is drawn evenly from the student's range, one for each image. The output of
student and teacher is the same, noise, x_0 or v. Each is a linear function of the noise at x_t and t, and the factors
1 + w and -w add up to 1, so this target is the guided prediction of each.

A student of a given number of sampling steps has another target, what two steps of its teacher amount to
(`lab/training/two_steps.py`), at the timesteps of these steps alone. Its teacher may be a student, and predicts x_0 or
v: at the noisiest timestep x_t holds hardly any image, and an error of the predicted noise is amplified by 1 / alpha.
"""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from lab.configuration.kinds import changed_kind
from lab.configuration.networks import ContextUnetConfig, DistilledUnetConfig, student_steps, student_weights
from lab.configuration.training import TrainingConfig
from lab.data.labelled_images import LabelledImages
from lab.diffusion.objectives import CLEAN_IMAGES, NOISES, TARGETS
from lab.diffusion.schedules import noise_schedule
from lab.errors import LabError
from lab.machine.computation import Computation
from lab.machine.precision import InPrecision
from lab.networks.distilled_unet import DistilledUnet, with_weight
from lab.training.checkpoints import Checkpoint
from lab.training.recipe import Recipe
from lab.training.two_steps import TwoSteps
from lab.types import Conditions, Images, Timesteps, WeightedConditions


def student_of(
    teacher: Checkpoint, guidance_weights: tuple[float, float] = (0.0, 4.0), sampling_steps: int = 0
) -> DistilledUnetConfig:
    """Return the network of a student: the teacher's, with w as one more input.

    Args:
        teacher: the checkpoint to distil.
        guidance_weights: the lowest and the highest w that the student learns.
        sampling_steps: the number of DDIM steps that it learns to sample in; 0 to learn the teacher's predictions.

    Raises:
        LabError: the teacher is no ContextUnet, or has not learned the null condition; or it is a student, and of
            another range of w or not of twice as many steps; or it predicts noise or has too few timesteps for the
            sampling steps; or the range of w is empty.
    """
    if 2 * sampling_steps > teacher.schedule.timesteps:
        raise LabError(
            f"--distillation.sampling-steps is {sampling_steps}; use at most half as many as the teacher's timesteps, "
            f"{teacher.schedule.timesteps}"
        )
    if sampling_steps and teacher.denoiser.prediction == "noise":
        raise LabError(
            "a student of few steps needs a teacher that predicts x_0 or v, and this one predicts the noise; train "
            "one with --denoiser.prediction x_0, or remove --distillation.sampling-steps"
        )
    if isinstance(teacher.denoiser, DistilledUnetConfig):
        return _student_of_student(teacher.denoiser, guidance_weights, sampling_steps)
    if type(teacher.denoiser) is not ContextUnetConfig:
        raise LabError(f"the teacher is a {teacher.denoiser.kind}; distillation needs a context_unet")
    if teacher.training.get("context_dropout") == 0 and teacher.training.get("start_from") is None:
        raise LabError(
            "the teacher was trained with --training.context-dropout 0, so it has no null condition to guide away "
            "from; choose another teacher"
        )
    student: DistilledUnetConfig = changed_kind(teacher.denoiser, DistilledUnetConfig)
    return replace(student, guidance_weights=guidance_weights, sampling_steps=sampling_steps)


def _student_of_student(
    teacher: DistilledUnetConfig, guidance_weights: tuple[float, float], sampling_steps: int
) -> DistilledUnetConfig:
    if sampling_steps == 0:
        raise LabError("the teacher is a student; give --distillation.sampling-steps, or a context_unet as the teacher")
    if teacher.sampling_steps not in (0, 2 * sampling_steps):
        raise LabError(
            f"the teacher samples in {teacher.sampling_steps} steps, and a student of {sampling_steps} needs one of "
            f"{2 * sampling_steps}; change --distillation.sampling-steps or the teacher"
        )
    low, high = teacher.guidance_weights
    # Its network is given w's place in this range.
    if guidance_weights != (low, high):
        raise LabError(
            f"the teacher learned w from {low:g} to {high:g}; set --distillation.guidance-weights {low:g} {high:g}"
        )
    return replace(teacher, sampling_steps=sampling_steps)


def require_student(recipe: Recipe, dataset: LabelledImages) -> None:
    """Raise LabError unless the recipe's teacher and network go together and with the images."""
    teacher, weights, steps = recipe.teacher, student_weights(recipe.denoiser), student_steps(recipe.denoiser)
    if teacher is None:
        if weights is not None:
            raise LabError(f"a {recipe.denoiser.kind} is a student and needs a teacher; give one, or a context_unet")
        return
    if weights is None or (recipe.denoiser, recipe.schedule) != (student_of(teacher, weights, steps), teacher.schedule):
        raise LabError("the network or the noise schedule does not match the teacher; use `lab.distilled_recipe`")
    untaught = student_weights(teacher.denoiser) is not None and teacher.training.get("context_dropout") == 0
    if untaught and recipe.training.context_dropout:
        raise LabError(
            "the teacher, a student, was trained with --training.context-dropout 0, so it cannot teach the null "
            "condition; set --training.context-dropout 0"
        )
    if steps and recipe.training.weighting == "min_snr":
        raise LabError(
            "--training.weighting min_snr leaves the noisiest timestep, a student's first step, almost no weight; "
            "choose as_predicted or min_snr_plus_one"
        )
    if recipe.training.start_from is not None:
        raise LabError("--training.start-from and a teacher both give the weights to start from; remove one of them")
    teacher.vocabulary.require_same(dataset.vocabulary, Path("the teacher"))
    if teacher.image_shape != dataset.image_shape:
        raise LabError(
            f"the teacher makes images of {teacher.image_shape}, and the dataset's are of {dataset.image_shape} "
            f"(channels, rows, columns); choose another teacher or dataset"
        )


def distilled_recipe(
    teacher: Checkpoint,
    guidance_weights: tuple[float, float] = (0.0, 4.0),
    training: TrainingConfig | None = None,
    seed: int = 0,
    sampling_steps: int = 0,
) -> Recipe:
    """Return the recipe of a student.

    Args:
        teacher, guidance_weights, sampling_steps: as of `student_of`.
        training: the optimizer, the loss, the EMA and the number of epochs.
        seed: of all randomness of training.

    Raises:
        LabError: as `student_of`.
    """
    student = student_of(teacher, guidance_weights, sampling_steps)
    return Recipe(student, teacher.schedule, training or TrainingConfig(), seed, teacher)


def load_teacher(student: nn.Module, teacher: Checkpoint) -> None:
    """Give a student its teacher's weights; those of its input w stay as they are if the teacher has no such input."""
    assert isinstance(student, DistilledUnet)
    receiver = student.unet if student_weights(teacher.denoiser) is None else student
    receiver.load_state_dict(teacher.weights)


class Teacher:
    """The guided prediction of a checkpoint, or two steps with it, as the target of its student.

    Args:
        checkpoint: the teacher.
        guidance_weights: the lowest and the highest w.
        computation: where and how.
        sampling_steps: the student's number of DDIM steps; 0 for the prediction as the target.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        guidance_weights: tuple[float, float],
        computation: Computation,
        sampling_steps: int = 0,
    ) -> None:
        self.classes, self.guidance_weights = len(checkpoint.vocabulary), guidance_weights
        self.takes_weight = student_weights(checkpoint.denoiser) is not None
        self.prediction, self.schedule = checkpoint.denoiser.prediction, noise_schedule(checkpoint.schedule)
        self.two_steps = TwoSteps(self.schedule, sampling_steps) if sampling_steps else None
        network = checkpoint.network(computation.device).requires_grad_(False)
        self.computed = InPrecision(network, computation.precision)

    def with_drawn_weights(self, conditions: Conditions, generator: torch.Generator) -> WeightedConditions:
        """Return the conditions with a w for each image as one more column."""
        low, high = self.guidance_weights
        return with_weight(conditions, low + (high - low) * torch.rand(len(conditions), generator=generator))

    @property
    def timesteps(self) -> Timesteps:
        """The timesteps that the student learns at, (M,)."""
        return torch.arange(self.schedule.timesteps) if self.two_steps is None else self.two_steps.timesteps

    @torch.no_grad()
    def target(self, x_t: Images, timesteps: Timesteps, conditions: WeightedConditions) -> Images:
        """Return what the student is to predict at the w of the conditions' last column, shaped like x_t."""
        if self.two_steps is None:
            return self._guided(x_t, timesteps, conditions)

        def predicted_x_0(x: Images, at: Timesteps) -> Images:
            guided = self._guided(x, at, conditions)
            # Clamped as samplers do by default.
            return CLEAN_IMAGES[self.prediction](x, guided, *self.schedule.amounts(at, x)).clamp(-1, 1)

        alpha, sigma = self.schedule.amounts(timesteps, x_t)
        x_0 = self.two_steps.merged(predicted_x_0, x_t, timesteps)
        # Without a division by alpha, which is 1e-4 at the first step.
        return TARGETS[self.prediction](x_0, NOISES["x_0"](x_t, x_0, alpha, sigma), alpha, sigma)

    def _guided(self, x_t: Images, timesteps: Timesteps, conditions: WeightedConditions) -> Images:
        if self.takes_weight:
            predicted: Tensor = self.computed(x_t, timesteps, conditions)
            return predicted
        asked, weight = conditions[:, : self.classes], conditions[:, self.classes :, None, None]
        both: Tensor = self.computed(
            torch.cat((x_t, x_t)), torch.cat((timesteps, timesteps)), torch.cat((asked, torch.zeros_like(asked)))
        )
        conditional, unconditional = both.chunk(2)
        return (1 + weight) * conditional - weight * unconditional


def teacher_of(recipe: Recipe, computation: Computation) -> Teacher | None:
    """Return the target of a recipe's student, or None if nothing is distilled."""
    weights = student_weights(recipe.denoiser)
    if recipe.teacher is None or weights is None:
        return None
    return Teacher(recipe.teacher, weights, computation, student_steps(recipe.denoiser))
