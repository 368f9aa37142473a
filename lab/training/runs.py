"""Training runs: a training in a folder, which can begin, be stopped, go on, or have ended.

`epoch0040.pt` and its like are the checkpoints that are kept; `training.pt`, rewritten beside them, is the whole state
of the training, so that it can go on. All of them say which settings they were made with, and others are refused.
"""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lab.configuration.checks import as_primitives
from lab.configuration.training import require_same_training
from lab.data.labelled_images import LabelledImages
from lab.errors import LabError, lines_of
from lab.machine.computation import Computation
from lab.machine.files import load_tensors, require_format, save_tensors
from lab.machine.interrupts import Interrupts
from lab.machine.ranks import present_ranks
from lab.training.checkpoints import FORMAT, Checkpoint, load_checkpoint, save_checkpoint, versions
from lab.training.power_ema import remove_snapshots, save_snapshot, snapshot_steps
from lab.training.recipe import Recipe
from lab.training.trainer import EpochLog, Step, Trainer, steps_per_epoch, untrained_network

SECONDS_BETWEEN_STATES = 30
"""After so long, the next step is saved: about what a killed training loses."""


def kept_name(epoch: int) -> str:
    """Return the file name of the checkpoint that is kept at the end of an epoch."""
    return f"epoch{epoch:04d}.pt"


@dataclass(frozen=True)
class KeptCheckpoint:
    """Where a training keeps a checkpoint, and what it will hold there.

    Args:
        path: its file.
        epoch, step: when it is kept.
        ema_length: sigma_rel, if it was rebuilt from power-function EMAs.
    """

    path: Path
    epoch: int
    step: int
    ema_length: float | None = None


def trainer_from(
    recipe: Recipe,
    dataset: LabelledImages,
    computation: Computation,
    untrained: Checkpoint,
    state: dict[str, Any] | None,
) -> Trainer:
    """Return the trainer of a training, on this rank's device.

    Args:
        recipe: what to train, and how.
        dataset: the generator's split.
        computation: where and how the first rank computes.
        untrained: the weights at the start.
        state: of the training so far; None at the start.
    """
    ranks = present_ranks()
    computation = replace(computation, device=ranks.device(computation.device))
    trainer = Trainer(recipe, dataset, computation, untrained.network(computation.device), ranks)
    if state is not None:
        trainer.load_state_dict(state)
    return trainer


def take_part(*begun: Any) -> None:
    """Take the steps of a training that the first rank runs; its arguments are those of `trainer_from`."""
    for _ in trainer_from(*begun).steps():
        pass


class TrainingRun:
    """A training in a folder. Making one builds the network and checks what is there, and writes nothing.

    Args:
        folder: of the checkpoints and the state.
        dataset: the generator's split.
        recipe: what to train, and how.
        settings: all that decides the run but the images, by name: classes of settings, or primitives.
        computation: where and how.

    Raises:
        LabError: the network does not fit the images; or the folder holds a damaged state, one of another format or of
            other settings, or lacks a checkpoint that the training went past.
    """

    def __init__(
        self,
        folder: Path,
        dataset: LabelledImages,
        recipe: Recipe,
        settings: dict[str, Any],
        computation: Computation,
    ) -> None:
        self.folder, self.dataset, self.recipe, self.computation = folder, dataset, recipe, computation
        self.config = recipe.training
        teacher = {} if recipe.teacher is None else {"teacher": recipe.teacher.digest}
        self.settings = settings | {"images": dataset.digest} | teacher
        steps_per_epoch(dataset, self.config)  # refuses images that do not fill a batch
        # Builds the network, and so refuses images that do not fit it. A trainer would build its optimizer too, whose
        # import takes seconds, and a finished training needs none.
        self.untrained = Checkpoint(
            denoiser=recipe.denoiser,
            schedule=recipe.schedule,
            image_shape=dataset.image_shape,
            vocabulary=dataset.vocabulary,
            epoch=0,
            step=0,
            settings=as_primitives(self.settings),
            weights=untrained_network(recipe, dataset).state_dict(),
        )
        self.state: dict[str, Any] | None = None
        self.state = self._state_so_far()
        self._trainer: Trainer | None = None

    @property
    def kept(self) -> list[KeptCheckpoint]:
        """The checkpoints that are kept: evenly spaced over the epochs, the last at the end.

        Those that a shorter training went past without keeping them are not among them.
        """
        steps = steps_per_epoch(self.dataset, self.config)
        passed = range(1, self.steps_so_far // steps + 1)
        return [
            KeptCheckpoint(self.folder / kept_name(epoch), epoch, epoch * steps)
            for epoch in self.config.kept_epochs
            if epoch not in passed or epoch in self.kept_so_far
        ]

    @property
    def kept_so_far(self) -> list[int]:
        """The epochs whose checkpoints have been kept."""
        return [] if self.state is None else list(self.state["kept_epochs"])

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self.config.epochs * steps_per_epoch(self.dataset, self.config)

    @property
    def steps_so_far(self) -> int:
        """Optimizer steps that are done and saved."""
        return 0 if self.state is None else int(self.state["step"])

    @property
    def log(self) -> EpochLog:
        """The rows of `training.csv` that are done and saved."""
        return EpochLog() if self.state is None else EpochLog(**self.state["log"])

    @property
    def losses_of_epoch_so_far(self) -> list[float]:
        """The losses of the steps that are done and saved of an epoch that is not finished."""
        log = self.log
        return log.losses[log.rows[-1]["step"] if log.rows else 0 :]

    def steps(self) -> Iterator[Step]:
        """Train to the end from where the run stopped, yielding each step.

        A checkpoint is kept before its step is yielded; the state is saved with every checkpoint and twice a minute.
        Snapshots of power-function EMAs are saved before the state, so that a resumed training lacks none.

        Ctrl-C is taken between two steps: the state is saved, then KeyboardInterrupt is raised.

        Raises:
            LabError: a file cannot be written, or the loss is no longer finite.
        """
        if self._trainer is not None:
            # Called again: from what was saved, since the state in memory is the tensors that were trained on.
            self.state = self._state_so_far()
        if self.steps_so_far == self.total_steps:
            return
        begun = (self.recipe, self.dataset, self.computation, self.untrained, self.state)
        try:
            self._trainer = trainer = trainer_from(*begun)
        except LabError:
            raise
        except Exception as error:  # torch raises many types of error for another network's state
            reason = lines_of(error)[-1]
            raise LabError(
                f"{self._state_file}: this training state does not fit ({reason:.120}); {self._again}"
            ) from None
        present_ranks().call(take_part, *begun)
        keep_at = {checkpoint.step: checkpoint for checkpoint in self.kept}
        kept_epochs = self.kept_so_far
        snapshot_at = snapshot_steps(self.total_steps) if self.config.power_emas else set()
        if self.steps_so_far == 0:
            remove_snapshots(self.folder)
        saved_at = time.monotonic()
        with Interrupts() as interrupts, closing(trainer.steps()) as steps:
            for step in steps:
                if step.step in keep_at:
                    save_checkpoint(keep_at[step.step].path, self.checkpoint())
                    kept_epochs.append(step.epoch)
                if step.step in snapshot_at:
                    averages = [average.module.state_dict() for average in trainer.power_emas]
                    save_snapshot(self.folder, step.step, averages)
                waited = time.monotonic() - saved_at > SECONDS_BETWEEN_STATES
                if step.step in keep_at or interrupts.noted or waited:
                    self.state = trainer.state_dict() | {"kept_epochs": list(kept_epochs)}
                    content = {
                        "format": FORMAT,
                        "versions": versions(),
                        "settings": self.untrained.settings,
                        "vocabulary": list(self.untrained.vocabulary.names),
                        "trainer": self.state,
                    }
                    save_tensors(self._state_file, content)
                    saved_at = time.monotonic()
                interrupts.stop_if_noted()
                yield step
            interrupts.stop_if_noted()

    def checkpoint(self) -> Checkpoint:
        """Return the checkpoint that would be kept now, whether it is one that is kept or not."""
        if self._trainer is None:
            return self.untrained
        return self._trainer.checkpoint(self.untrained.settings)

    @property
    def _again(self) -> str:
        return f"delete {self.folder} to train again"

    @property
    def _state_file(self) -> Path:
        return self.folder / "training.pt"

    def _state_so_far(self) -> dict[str, Any] | None:
        if self.config.epochs == 0:
            self._require_imported(self.folder / kept_name(0))
            return None
        path, settings, again = self._state_file, self.settings, self._again
        if not path.exists():
            # Killed between two writes, a run leaves its first checkpoint alone: made again, unless another run's.
            for checkpoint in (self.folder / kept_name(epoch) for epoch in self.config.kept_epochs):
                if checkpoint.exists():
                    stored = load_tensors(checkpoint, "checkpoint", again).get("settings")
                    require_same_training(checkpoint, stored, settings)
            return None
        content = load_tensors(path, "training state", f"restore a copy, or {again}")
        require_format(path, content.get("format"), FORMAT)
        require_same_training(path, content.get("settings"), settings)
        state: Any = content.get("trainer")
        try:
            whole = 0 <= int(state["step"]) <= self.total_steps and {"denoiser", "ema", "optimizers"} <= state.keys()
            EpochLog(**state["log"])
            kept_epochs = {int(epoch) for epoch in state["kept_epochs"]}
        except (KeyError, TypeError, ValueError, AttributeError):
            whole = False
        if not whole:
            raise LabError(f"{path}: this training state is incomplete; {again}")
        for epoch in kept_epochs & set(self.config.kept_epochs):
            if not (checkpoint := self.folder / kept_name(epoch)).exists():
                raise LabError(f"{checkpoint} is gone, though training went past it; restore it, or {again}")
        return dict(state)

    def _require_imported(self, path: Path) -> None:
        """Raise LabError unless the checkpoint that nothing is trained beyond is there and fits the images."""
        if not path.exists():
            raise LabError(f"{path}: no such checkpoint; --training.epochs 0 trains none and sweeps an imported one")
        found, wanted = load_checkpoint(path, self.dataset.vocabulary).image_shape, self.dataset.image_shape
        if found != wanted:
            raise LabError(
                f"{path}: makes images of {found}, and the dataset's are of {wanted} (channels, rows, columns)"
            )
