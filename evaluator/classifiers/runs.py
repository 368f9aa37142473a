"""Runs: a classifier's training that can be stopped and go on, its state in a file until it is finished."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from evaluator.classifiers.networks import build_classifier
from evaluator.classifiers.training import ClassifierTraining
from evaluator.configuration import EvaluatorConfig
from lab.configuration.checks import as_primitives, require_same_settings
from lab.data.labelled_images import LabelledImages
from lab.errors import LabError, lines_of
from lab.machine.files import load_tensors, require_format, save_tensors
from lab.machine.interrupts import Interrupts
from lab.machine.ranks import present_ranks

FORMAT = 1
"""Raise it when what a state holds changes."""
SECONDS_BETWEEN_STATES = 30
"""After so long, the next step is saved: about what a killed training loses."""


def state_file(evaluator: Path) -> Path:
    """Return where the state of an evaluator's training is while it is not finished."""
    return evaluator.with_name(f"{evaluator.stem}_training.pt")


def training_from(
    config: EvaluatorConfig,
    images: LabelledImages,
    seed: int,
    precision: str,
    device: torch.device,
    state: dict[str, Any] | None,
) -> ClassifierTraining:
    """Return the training of a classifier, on this rank's device.

    Args:
        config: the classifier and how it is trained.
        images: what it is trained on.
        seed: of the initial weights, the order, the jitter and dropout.
        precision: of the training.
        device: the first rank's.
        state: of the training so far; None at the start.
    """
    ranks = present_ranks()
    classifier = build_classifier(config, images.image_shape[0], len(images.vocabulary), seed).to(ranks.device(device))
    training = ClassifierTraining(classifier, images, config, seed, precision, ranks)
    if state is not None:
        training.load_state_dict(state)
    return training


def take_part(*begun: Any) -> None:
    """Take the steps of a training that the first rank runs; its arguments are those of `training_from`."""
    for _ in training_from(*begun).steps():
        pass


class ClassifierRun:
    """A training of a classifier that goes on from the state in a file, if there is one.

    Args:
        path: of the state.
        config, images, seed, precision, device: see `training_from`.
        settings: all that decides the training, by name: classes of settings, or primitives.

    Raises:
        LabError: the state is damaged, or of another format or other settings.
    """

    def __init__(
        self,
        path: Path,
        config: EvaluatorConfig,
        images: LabelledImages,
        seed: int,
        precision: str,
        device: torch.device,
        settings: dict[str, Any],
    ) -> None:
        self.path, self.settings = path, settings
        self._begun = (config, images, seed, precision, device, self._state_so_far())
        try:
            self.training = training_from(*self._begun)
        except LabError:
            raise
        except Exception as error:  # torch raises many types of error for another network's state
            reason = lines_of(error)[-1]
            raise LabError(f"{path}: this training state does not fit ({reason:.120}); delete it") from None

    def epochs(self) -> Iterator[float]:
        """Train to the end and yield the mean loss of each epoch. The state is saved twice a minute.

        Ctrl-C is taken between two steps: the state is saved, then KeyboardInterrupt is raised.

        Raises:
            LabError: the file cannot be written, or the loss of an epoch is not finite.
        """
        training, saved_at = self.training, time.monotonic()
        present_ranks().call(take_part, *self._begun)
        with Interrupts() as interrupts, closing(training.steps()) as steps:
            for step in steps:
                if interrupts.noted or time.monotonic() - saved_at > SECONDS_BETWEEN_STATES:
                    self._save()
                    saved_at = time.monotonic()
                interrupts.stop_if_noted()
                if step % len(training.sizes) == 0:
                    yield training.losses[-1]

    def _save(self) -> None:
        content = {"format": FORMAT, "settings": as_primitives(self.settings), "training": self.training.state_dict()}
        save_tensors(self.path, content)

    def _state_so_far(self) -> dict[str, Any] | None:
        if not self.path.exists():
            return None
        content = load_tensors(self.path, "training state", "delete it to train the evaluator from the start")
        require_format(self.path, content.get("format"), FORMAT)
        require_same_settings(self.path, content.get("settings"), self.settings)
        state = content.get("training")
        if not isinstance(state, dict):
            raise LabError(f"{self.path}: this training state is incomplete; delete it")
        return state
