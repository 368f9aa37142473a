"""The weaker checkpoint, which autoguidance guides away from: the training's first one, or any that is given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from experiments.configuration import Experiment
from lab.errors import LabError

if TYPE_CHECKING:
    from lab.configuration.diffusion import ScheduleConfig
    from lab.data.labels import ClassVocabulary
    from lab.training.checkpoints import Checkpoint
    from lab.training.runs import KeptCheckpoint, TrainingRun


def weaker_checkpoint(path: Path, source: Path, checkpoint: Checkpoint) -> Checkpoint:
    """Return the weaker checkpoint of autoguidance.

    Args:
        path: its file, of --weak-checkpoint.
        source: the file of the checkpoint to guide.
        checkpoint: that checkpoint.

    Raises:
        LabError: it is the checkpoint itself, or it differs in vocabulary, noise schedule or image size.
    """
    from lab.machine.files import digest

    weaker = _fitting(path, checkpoint.vocabulary, checkpoint.schedule, checkpoint.image_shape, str(source))
    if digest(path) == digest(source):
        raise LabError(f"--weak-checkpoint {path} is --checkpoint itself, which guides nowhere; give a weaker one")
    return weaker


def _fitting(
    path: Path, vocabulary: ClassVocabulary, schedule: ScheduleConfig, image_shape: tuple[int, int, int], owner: str
) -> Checkpoint:
    """Return the weaker checkpoint of an owner with this vocabulary, noise schedule and image size.

    Raises:
        LabError: it cannot be read, or it differs.
    """
    from lab.sweep.fit import require_all_timesteps
    from lab.training.checkpoints import load_checkpoint

    if not path.exists():
        raise LabError(f"--weak-checkpoint {path}: no such checkpoint; give one that exists")
    weaker = load_checkpoint(path, vocabulary)
    require_all_timesteps(weaker.denoiser, f"--weak-checkpoint {path}")
    if (weaker.schedule, weaker.image_shape) != (schedule, image_shape):
        raise LabError(
            f"--weak-checkpoint {path} has another noise schedule or image size than {owner}; both must be the same, "
            f"but its network may be smaller or trained for less"
        )
    return weaker


def weaker_name(experiment: Experiment, path: Path) -> str:
    """Return the name of a weaker checkpoint in cells and tables: with its experiment, if that is another."""
    own = path.resolve().parent == experiment.swept_checkpoints.resolve()
    return path.stem if own else f"{path.resolve().parent.name}/{path.stem}"


def require_weaker(experiment: Experiment, kept: int) -> None:
    """Raise LabError if a method of guidance needs a weaker checkpoint, and there is none, or none needs the given one.

    A training that goes on for longer keeps fewer than its settings say, because it does not go back for those that
    it has passed.

    Args:
        experiment: the experiment.
        kept: how many checkpoints its training keeps.
    """
    from lab.guidance.methods import named_methods

    needing = [named for named in named_methods(experiment.guidance.method) if named.method.facts.needs_weaker]
    if experiment.weak_checkpoint is not None and not needing:
        raise LabError(
            f"--weak-checkpoint {experiment.weak_checkpoint} is for --guidance.method auto, which is not swept; "
            f"remove it, or add the method"
        )
    if needing and experiment.weak_checkpoint is None and kept == 1:
        planned = len(experiment.training.kept_epochs)
        passed = "" if planned == 1 else f", since it was shorter when it passed the other {planned - 1}"
        remedy = "raise --training.checkpoints to 2 or more" if planned == 1 else "choose another method or --name"
        raise LabError(
            f"--guidance.method {needing[0].name} guides by an earlier checkpoint of the same training, and this one "
            f"keeps a single checkpoint{passed}; {remedy}"
        )


def require_weaker_fits(experiment: Experiment, training: TrainingRun) -> None:
    """Raise LabError unless the given weaker checkpoint fits the training and leaves one to guide.

    It may be one that the training has not kept yet.
    """
    from lab.machine.files import digest

    if (path := experiment.weak_file) is None:
        return
    kept = [each.path.resolve() for each in training.kept]
    # A copy is the same checkpoint, by_accuracy/ has some.
    swept = {digest(each) if each.exists() and path.exists() else each for each in kept[-experiment.sweep.newest :]}
    if swept == {digest(path) if path.exists() else path.resolve()} and not experiment.sweep.ema_lengths:
        raise LabError(f"--weak-checkpoint {path} is the only checkpoint that is swept; give a weaker one")
    if path.resolve() in kept and not path.exists():
        return
    images, recipe = training.dataset, training.recipe
    _fitting(path, images.vocabulary, recipe.schedule, images.image_shape, f"--name {experiment.name}")


def weaker_so_far(experiment: Experiment, first: KeptCheckpoint, step: int) -> Path | None:
    """Return the file of the weaker checkpoint during the training, or None if it does not exist yet.

    Args:
        experiment: the experiment.
        first: the first checkpoint that the training keeps.
        step: optimizer steps so far.
    """
    if (path := experiment.weak_file) is not None:
        return path if path.exists() else None
    return first.path if first.step <= step else None
