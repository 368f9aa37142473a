"""Accuracy while training runs: `--training.score-every N` measures it at w = 0 and names the checkpoint by it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from experiments.judged_cells import judged
from experiments.reporting import name_by_accuracy

if TYPE_CHECKING:
    import pandas as pd

    from experiments.sweep import Sweep
    from lab.sweep.cells import StoredResult
    from lab.training.runs import KeptCheckpoint, TrainingRun


@dataclass(frozen=True)
class Measurement:
    """The accuracies of one checkpoint at w = 0.

    Args:
        epoch, step: when it was kept.
        accuracies: by label-set file.
    """

    epoch: int
    step: int
    accuracies: dict[str, float]

    def __str__(self) -> str:
        return f"epoch {self.epoch}: {', '.join(f'{name} {value:.4f}' for name, value in self.accuracies.items())}"


@dataclass
class RunningAccuracy:
    """The accuracies of a training so far, at w = 0.

    The cells are those of the sweep, so what is measured here is not measured again, and a resumed training measures
    only what is missing.

    Args:
        sweep: the experiment's sweep.
        training: the training.
        results: the results so far, in the order of the epochs.
    """

    sweep: Sweep
    training: TrainingRun
    results: list[StoredResult] = field(default_factory=list)
    _tables: list[pd.DataFrame] = field(default_factory=list)

    @property
    def _due(self) -> list[KeptCheckpoint]:
        scored, done = self.training.config.scored_epochs, {result.cell.epoch for result in self.results}
        so_far = set(self.training.kept_so_far)
        return [
            kept
            for kept in self.training.kept
            if kept.epoch in scored and kept.epoch in so_far and kept.epoch not in done
        ]

    def measure(self) -> list[Measurement]:
        """Measure the checkpoints that are due.

        Each one's row is added to `accuracy_by_epoch.csv`, and its file gets a second name that has the accuracies.
        """
        import pandas as pd

        from evaluator.judging.epochs import accuracy_by_epoch
        from evaluator.judging.ranking import accuracy_by_checkpoint
        from evaluator.reporting.results import sweep_rows
        from evaluator.tables import write_csv

        experiment, measurements = self.sweep.experiment, []
        for kept in self._due:
            results = list(self.sweep.run(self.sweep.unguided_cells(kept)))
            self.results += results
            vocabulary = self.sweep.evaluators.first.vocabulary
            rows = sweep_rows([judged(experiment, result, vocabulary) for result in results], vocabulary)
            self._tables.append(rows)
            table = accuracy_by_epoch(pd.concat(self._tables), pd.DataFrame(self.training.log.rows))
            write_csv(experiment.reports / "accuracy_by_epoch.csv", table)
            name_by_accuracy(experiment, accuracy_by_checkpoint(rows).iloc[0])
            accuracies = dict(zip(rows["label_set"], rows["accuracy"], strict=True))
            measurements.append(Measurement(kept.epoch, kept.step, accuracies))
        return measurements
