"""Runs: several experiments under one evaluator, in this process one after another, or each on a worker."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.configuration import Experiment
from experiments.stages import Finished, run

if TYPE_CHECKING:
    from lab.machine.workers import Worker


@dataclass(frozen=True)
class RunWork:
    """What a worker does: it runs an experiment, and keeps what it would print to itself.

    Args:
        device: name of the workers' device; see `lab.machine.devices.chosen_devices`.
    """

    device: str

    def files(self, experiment: Experiment) -> Sequence[Path]:
        """Return no files: the workers are processes of this machine and have its folders."""
        return []

    def name(self, experiment: Experiment) -> str:
        """Return the experiment's name, for errors."""
        return experiment.name

    def __call__(self, experiment: Experiment, worker: Worker) -> None:
        """Run an experiment."""
        from lab.machine.devices import chosen_devices, dealt

        device = str(dealt(chosen_devices(self.device), worker.number))
        # Its cells run in the worker: a worker may start no processes.
        one = replace(experiment, device=device, sweep=replace(experiment.sweep, workers=1))
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            run(one)


def run_each(experiments: Sequence[Experiment]) -> Iterator[Finished]:
    """Run experiments that have all settings but their name in folders of their own, and yield each as it is finished.

    With workers, all are finished before the first is yielded. Finished work is not repeated.

    Args:
        experiments: the experiments; their settings of workers and device are the same.

    Raises:
        LabError: an experiment failed; with workers, the message names the experiment and the worker.
    """
    from tqdm import tqdm

    from lab.machine.devices import chosen_devices
    from lab.machine.processes import on_processes
    from lab.machine.ranks import present_ranks

    first = experiments[0]
    workers = first.sweep.workers or len(chosen_devices(first.device))
    # Ranks train each network together, and a cluster gets the cells of one run after another.
    if workers > 1 and not first.sweep.cluster and present_ranks().size == 1:
        finished = on_processes(RunWork(first.device), experiments, workers=workers)
        for _ in tqdm(finished, desc="runs", total=len(experiments), unit="run"):
            pass
    for experiment in experiments:
        print(f"{experiment.name}:", file=sys.stderr)
        yield run(experiment)
