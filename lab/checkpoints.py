"""Checkpoints: a denoiser's EMA weights with all that is needed to sample from them again.

A kept checkpoint (`epoch0040.pt`) holds the EMA copy; `training.pt`, rewritten beside it, holds the whole state of
the training, so that it can go on. Both are tensors and primitives only.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lab.configuration import DenoiserConfig, ScheduleConfig, TrainingConfig, require_same_settings
from lab.errors import LabError
from lab.files import load_tensors, save_tensors
from lab.interrupts import Interrupts
from lab.labels import ClassVocabulary
from lab.networks import ContextUnet, build_denoiser
from lab.training import Step, Trainer

FORMAT = 1
STATE_FILE = "training.pt"
SECONDS_BETWEEN_STATES = 30
"""The most work a killed training loses."""


@dataclass(frozen=True)
class Checkpoint:
    """A denoiser at one moment of its training.

    Args:
        denoiser: the network's configuration.
        schedule: the noise schedule it was trained on.
        image_shape: (channels, height, width).
        vocabulary: the classes of its conditions.
        epoch: passes over the data so far.
        step: optimizer steps so far.
        settings: all that decided the run, as nested dictionaries of primitives.
        weights: the EMA copy's state.
    """

    denoiser: DenoiserConfig
    schedule: ScheduleConfig
    image_shape: tuple[int, int, int]
    vocabulary: ClassVocabulary
    epoch: int
    step: int
    settings: dict[str, Any]
    weights: dict[str, Tensor]

    def noise_predictor(self, device: torch.device) -> ContextUnet:
        """Return the network with these weights, on this device, ready to predict."""
        network = build_denoiser(self.denoiser, self.image_shape, len(self.vocabulary), self.schedule, seed=0)
        network.load_state_dict(self.weights)
        return network.to(device).eval()


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        LabError: the file cannot be written.
    """
    save_tensors(
        path,
        {
            "format": FORMAT,
            "torch": str(torch.__version__),
            **{key: getattr(checkpoint, key) for key in ("image_shape", "epoch", "step", "settings", "weights")},
            "denoiser": asdict(checkpoint.denoiser),
            "schedule": asdict(checkpoint.schedule),
            "vocabulary": list(checkpoint.vocabulary.names),
        },
    )


def load_checkpoint(path: Path, vocabulary: ClassVocabulary) -> Checkpoint:
    """Read a checkpoint and refuse one of another vocabulary.

    Raises:
        LabError: the file is missing, damaged, of another format or vocabulary, or its weights do not fit its
            own configuration.
    """
    content = load_tensors(path, "checkpoint", f"restore a copy, or delete {path.parent} to train again")
    require_format(path, content)
    try:
        checkpoint = Checkpoint(
            denoiser=DenoiserConfig(**content["denoiser"]),
            schedule=ScheduleConfig(**content["schedule"]),
            image_shape=tuple(content["image_shape"]),
            vocabulary=ClassVocabulary(tuple(content["vocabulary"])),
            epoch=content["epoch"],
            step=content["step"],
            settings=content["settings"],
            weights=content["weights"],
        )
    except (KeyError, TypeError, ValueError, AttributeError, LabError) as error:
        raise LabError(f"{path}: this checkpoint is incomplete ({error!s:.120}); train it again") from None
    checkpoint.vocabulary.require_same(vocabulary, path)
    try:
        checkpoint.noise_predictor(torch.device("cpu"))
    except (RuntimeError, AttributeError, TypeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise LabError(f"{path}: these weights do not fit the checkpoint's own configuration ({reason:.120})") from None
    return checkpoint


def require_format(path: Path, content: dict[str, Any]) -> None:
    """Raise LabError unless the file says it is of the format this lab writes."""
    found = content.get("format")
    if found != FORMAT:
        told = f"format {found}" if isinstance(found, int) else "no format number"
        raise LabError(
            f"{path}: this file has {told}; this lab reads format {FORMAT}. Was it written by another version?"
        )


@dataclass(frozen=True)
class KeptCheckpoint:
    """Where a training keeps a checkpoint, and what it will hold there."""

    path: Path
    epoch: int
    step: int


def kept_checkpoints(folder: Path, config: TrainingConfig, steps_per_epoch: int) -> list[KeptCheckpoint]:
    """Return the checkpoints a training keeps: evenly spaced over its epochs, the last at its end."""
    epochs = [round(config.epochs * (i + 1) / config.checkpoints) for i in range(config.checkpoints)]
    return [KeptCheckpoint(folder / f"epoch{epoch:04d}.pt", epoch, epoch * steps_per_epoch) for epoch in epochs]


def load_training_state(
    folder: Path, kept: Sequence[KeptCheckpoint], settings: dict[str, Any]
) -> dict[str, Any] | None:
    """Return the state where an earlier run of the same settings stopped, for `Trainer.load_state_dict`.

    Args:
        folder: of the checkpoints.
        kept: the checkpoints that the training keeps.
        settings: all that decides the training.

    Returns:
        The state, or None where there was no earlier run.

    Raises:
        LabError: the state is damaged, of another format or of other settings, or a checkpoint it went past is gone.
    """
    path, again = folder / STATE_FILE, f"delete {folder} to train again"
    if not path.exists():
        # Killed between two writes, a run leaves its first checkpoint alone; that is made again, another run's is not.
        for checkpoint in kept:
            if checkpoint.path.exists():
                found = load_tensors(checkpoint.path, "checkpoint", again)
                require_same_settings(checkpoint.path, found.get("settings"), settings)
        return None
    content = load_tensors(path, "training state", f"restore a copy, or {again}")
    require_format(path, content)
    require_same_settings(path, content.get("settings"), settings)
    state = content.get("trainer")
    if not isinstance(state, dict) or not {"step", "log", "denoiser", "ema", "optimizer"} <= state.keys():
        raise LabError(f"{path}: this training state is incomplete; {again}")
    for checkpoint in kept:
        if checkpoint.step <= state["step"] and not checkpoint.path.exists():
            raise LabError(f"{checkpoint.path} is gone, though training went past it; restore it, or {again}")
    return state


def training_steps(
    trainer: Trainer, untrained: Checkpoint, folder: Path, kept: Sequence[KeptCheckpoint]
) -> Iterator[Step]:
    """Train, keeping checkpoints and the state to go on from, and yield each step once it is safe.

    Ctrl-C is taken between two steps: the state is saved, then KeyboardInterrupt is raised.

    Args:
        trainer: where to train on from.
        untrained: what every kept checkpoint says of itself, but for epoch, step and weights.
        folder: where the state is saved.
        kept: the checkpoints to keep.

    Raises:
        LabError: a file cannot be written, or the loss is no longer finite.
    """
    keep_at = {checkpoint.step: checkpoint.path for checkpoint in kept}

    def save_state() -> None:
        content = {"format": FORMAT, "settings": untrained.settings, "trainer": trainer.state_dict()}
        save_tensors(folder / STATE_FILE, content)

    saved_at = time.monotonic()
    with Interrupts() as interrupts:
        for step in trainer.steps():
            if step.step in keep_at:
                weights = trainer.ema.module.state_dict()
                save_checkpoint(
                    keep_at[step.step], replace(untrained, epoch=step.epoch, step=step.step, weights=weights)
                )
            if step.step in keep_at or interrupts.noted or time.monotonic() - saved_at > SECONDS_BETWEEN_STATES:
                save_state()
                saved_at = time.monotonic()
            interrupts.stop_if_noted()
            yield step
