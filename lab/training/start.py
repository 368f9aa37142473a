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
        LabError: the checkpoint cannot be read, or does not fit; the message names the first difference.
    """
    start = read_checkpoint(path)
    theirs: dict[str, Any] = {"image shape": start.image_shape, "classes": start.vocabulary.names}
    ours: dict[str, Any] = {"image shape": dataset.image_shape, "classes": dataset.vocabulary.names}
    theirs |= asdict(start.denoiser)  # type: ignore[call-overload]  # settings are dataclasses
    ours |= asdict(recipe.denoiser)  # type: ignore[call-overload]
    for name in ours.keys() | theirs.keys():
        if theirs.get(name) != ours.get(name):
            raise LabError(
                f"--training.start-from {path} does not fit: {name} is {theirs.get(name)!s:.80} there, "
                f"{ours.get(name)!s:.80} here; take its settings, or another checkpoint"
            )
    return start.weights
