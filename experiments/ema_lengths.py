"""EMA lengths: checkpoints that are rebuilt at the end of a training, which the sweep takes like kept ones."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from experiments.configuration import Experiment

if TYPE_CHECKING:
    from lab.training.runs import KeptCheckpoint, TrainingRun


def rebuilt_checkpoints(experiment: Experiment, training: TrainingRun) -> list[KeptCheckpoint]:
    """Write a checkpoint for each EMA length of the sweep, like `ema0.05-epoch0075.pt`, and return where they are.

    A checkpoint that is there already is not rebuilt.

    Args:
        experiment: the experiment.
        training: its training, which is finished.

    Raises:
        LabError: the training kept no power-function EMAs, or a file is damaged or cannot be written.
    """
    from lab.training.checkpoints import load_checkpoint, save_checkpoint
    from lab.training.power_ema import rebuilt

    newest, vocabulary = training.kept[-1], training.dataset.vocabulary
    wanted = [
        replace(newest, path=newest.path.with_name(f"ema{length}-{newest.path.name}"), ema_length=length)
        for length in experiment.sweep.ema_lengths
    ]
    if missing := [kept for kept in wanted if not kept.path.exists()]:
        lengths = [kept.ema_length for kept in missing if kept.ema_length is not None]
        found = rebuilt(newest.path.parent, load_checkpoint(newest.path, vocabulary), lengths)
        for kept, (checkpoint, error) in zip(missing, found, strict=True):
            save_checkpoint(kept.path, checkpoint)
            print(f"{kept.path}: rebuilt, its profile is off by {error:.1%}", file=sys.stderr)
    return wanted
