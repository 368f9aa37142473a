"""Starts: the weights that a new training starts from."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from lab.data.labelled_images import LabelledImages
from lab.errors import LabError
from lab.training.checkpoints import read_checkpoint
from lab.training.recipe import Recipe


def starting_weights(path: Path, recipe: Recipe, dataset: LabelledImages) -> dict[str, Tensor]:
    """Return the EMA weights of a checkpoint, for a training of this recipe on these images to start from.

    Args:
        path: of the checkpoint.
        recipe: its network must be the checkpoint's; its noise schedule and training may be others.
        dataset: of the same image shape and classes as the checkpoint.

    Raises:
        LabError: the checkpoint cannot be read, or does not fit, in which case the message names the first difference;
            or the network does not take the conditions of this training.
    """
    start = read_checkpoint(path)
    start.vocabulary.require_same(dataset.vocabulary, path)
    theirs: dict[str, Any] = {"image shape": start.image_shape, "kind": start.denoiser.kind}
    ours: dict[str, Any] = {"image shape": dataset.image_shape, "kind": recipe.denoiser.kind}
    theirs |= asdict(start.denoiser)  # type: ignore[call-overload]  # settings are dataclasses
    ours |= asdict(recipe.denoiser)  # type: ignore[call-overload]
    # In one order always. The kind comes before the fields that it decides.
    for name in theirs | ours:
        if theirs.get(name) != ours.get(name):
            raise LabError(
                f"--training.start-from {path} does not fit: {name} is {theirs.get(name)!s:.80} there, "
                f"{ours.get(name)!s:.80} here; take its settings, or another checkpoint"
            )
    _require_known_conditions(path, recipe, dataset)
    return start.weights


def _require_known_conditions(path: Path, recipe: Recipe, dataset: LabelledImages) -> None:
    """Raise LabError unless the network takes every condition that the training gives it."""
    sizes = recipe.denoiser.label_set_sizes
    if (dropout := recipe.training.context_dropout) and 0 not in sizes:
        raise LabError(
            f"--training.context-dropout is {dropout:g}, and the network of {path} has no null condition; set it to 0"
        )
    given = set(dataset.conditions.count_nonzero(dim=1).tolist())
    if wrong := sorted(size for size in given if size not in sizes):
        raise LabError(
            f"--training.start-from {path} does not fit: images have {wrong[0]} classes, and its network takes "
            f"{sizes.start} to {sizes.stop - 1}; choose another checkpoint or dataset"
        )
