"""Guidance distillation (Meng et al. 2023, arXiv:2210.03142, section 3.1): training a student of a guided checkpoint.

    loss = weight_t |student(x_t, t, y, w) - ((1 + w) teacher(x_t, t, y) - w teacher(x_t, t, null))|^2

x_t are noised training images and w is drawn evenly from the student's range, one for each image. The output of
student and teacher is the same, noise, x_0 or v. Each is a linear function of the noise at x_t and t, and the factors
1 + w and -w add up to 1, so this target is the guided prediction of each.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from lab.configuration.kinds import changed_kind
from lab.configuration.networks import ContextUnetConfig, DistilledUnetConfig, student_weights
from lab.configuration.training import TrainingConfig
from lab.data.labelled_images import LabelledImages
from lab.errors import LabError
from lab.machine.computation import Computation
from lab.machine.precision import InPrecision
from lab.networks.distilled_unet import DistilledUnet, with_weight
from lab.training.checkpoints import Checkpoint
from lab.training.recipe import Recipe
from lab.types import Conditions, Images, Timesteps, WeightedConditions


def student_of(teacher: Checkpoint, guidance_weights: tuple[float, float] = (0.0, 4.0)) -> DistilledUnetConfig:
    """Return the network of a student: the teacher's, with w as one more input.

    Args:
        teacher: the checkpoint to distil.
        guidance_weights: the lowest and the highest w that the student learns.

    Raises:
        LabError: the teacher is no ContextUnet, or has not learned the null condition; or the range of w is empty.
    """
    if type(teacher.denoiser) is not ContextUnetConfig:
        raise LabError(f"the teacher is a {teacher.denoiser.kind}; distillation needs a context_unet")
    if teacher.training.get("context_dropout") == 0 and teacher.training.get("start_from") is None:
        raise LabError(
            "the teacher was trained with --training.context-dropout 0, so it has no null condition to guide away "
            "from; choose another teacher"
        )
    student: DistilledUnetConfig = changed_kind(teacher.denoiser, DistilledUnetConfig)
    return DistilledUnetConfig(**{**vars(student), "guidance_weights": guidance_weights})


def require_student(recipe: Recipe, dataset: LabelledImages) -> None:
    """Raise LabError unless the recipe's teacher and network go together and with the images."""
    teacher, weights = recipe.teacher, student_weights(recipe.denoiser)
    if teacher is None:
        if weights is not None:
            raise LabError(f"a {recipe.denoiser.kind} is a student and needs a teacher; give one, or a context_unet")
        return
    if weights is None or (recipe.denoiser, recipe.schedule) != (student_of(teacher, weights), teacher.schedule):
        raise LabError("the network or the noise schedule does not match the teacher; use `lab.distilled_recipe`")
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
) -> Recipe:
    """Return the recipe of a student.

    Args:
        teacher, guidance_weights: as of `student_of`.
        training: the optimizer, the loss, the EMA and the number of epochs.
        seed: of all randomness of training.

    Raises:
        LabError: as `student_of`.
    """
    return Recipe(student_of(teacher, guidance_weights), teacher.schedule, training or TrainingConfig(), seed, teacher)


def load_teacher(student: nn.Module, teacher: Checkpoint) -> None:
    """Give a student its teacher's weights; those of its input w stay as they are."""
    assert isinstance(student, DistilledUnet)
    student.unet.load_state_dict(teacher.weights)


class Teacher:
    """The guided prediction of a checkpoint as the target of its student.

    Args:
        checkpoint: the teacher.
        guidance_weights: the lowest and the highest w.
        computation: where and how.
    """

    def __init__(self, checkpoint: Checkpoint, guidance_weights: tuple[float, float], computation: Computation) -> None:
        self.classes, self.guidance_weights = len(checkpoint.vocabulary), guidance_weights
        network = checkpoint.network(computation.device).requires_grad_(False)
        self.computed = InPrecision(network, computation.precision)

    def with_drawn_weights(self, conditions: Conditions, generator: torch.Generator) -> WeightedConditions:
        """Return the conditions with a w for each image as one more column."""
        low, high = self.guidance_weights
        return with_weight(conditions, low + (high - low) * torch.rand(len(conditions), generator=generator))

    @torch.no_grad()
    def target(self, x_t: Images, timesteps: Timesteps, conditions: WeightedConditions) -> Images:
        """Return the guided prediction at the w of the conditions' last column, shaped like x_t."""
        asked, weight = conditions[:, : self.classes], conditions[:, self.classes :, None, None]
        both: Tensor = self.computed(
            torch.cat((x_t, x_t)), torch.cat((timesteps, timesteps)), torch.cat((asked, torch.zeros_like(asked)))
        )
        conditional, unconditional = both.chunk(2)
        return (1 + weight) * conditional - weight * unconditional


def teacher_of(recipe: Recipe, computation: Computation) -> Teacher | None:
    """Return the target of a recipe's student, or None if nothing is distilled."""
    weights = student_weights(recipe.denoiser)
    return None if recipe.teacher is None or weights is None else Teacher(recipe.teacher, weights, computation)
