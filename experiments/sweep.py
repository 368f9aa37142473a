"""The sweep of an experiment: its cells, for all guidance weights at the end and for w = 0 while training runs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.configuration import Experiment
from experiments.distillation import swept_teacher
from experiments.reporting import CELLS
from experiments.weaker import weaker_name
from lab.configuration.distillation import TEACHER
from lab.configuration.networks import student_weights
from lab.errors import LabError

if TYPE_CHECKING:
    import torch

    from evaluator.classifiers.weights import Evaluator
    from experiments.evaluators import Evaluators
    from lab.data.labels import ClassVocabulary, LabelSet
    from lab.guidance.methods import NamedMethod
    from lab.machine.computation import Computation
    from lab.sweep.cells import StoredResult, SweepCell
    from lab.sweep.run import Engine, Judge
    from lab.training.runs import KeptCheckpoint
    from lab.types import ImageClassifier


def judge_of(evaluator: Evaluator) -> Judge:
    """Return an evaluator as a sweep calls it."""
    from evaluator.classifiers.networks import logits_in_batches

    return partial(logits_in_batches, evaluator.classifier)


def loaded_classifiers(
    files: Sequence[Path], vocabulary: ClassVocabulary, device: torch.device
) -> tuple[Judge, Mapping[str, ImageClassifier]]:
    """Load the evaluator, and the guide if it has a file too, as a sweep calls them."""
    from evaluator.classifiers.weights import load_evaluator
    from experiments.evaluators import Evaluators

    first, *guides = (load_evaluator(file, vocabulary, device) for file in files)
    return judge_of(first), Evaluators(first, None, None, *guides).classifiers


@dataclass(frozen=True)
class Sweep:
    """Everything that the cells of an experiment have in common.

    Args:
        experiment: the experiment.
        evaluators: the first judges the images; it may guide too, and so may the guide.
        label_sets: the label sets of every label-set file, by its name.
        computation: the device and the precision.
    """

    experiment: Experiment
    evaluators: Evaluators
    label_sets: dict[str, tuple[LabelSet, ...]]
    computation: Computation

    @cached_property
    def _evaluator_digest(self) -> str:
        from lab.machine.files import digest

        return digest(self.experiment.evaluator_file)

    def _guide_digest(self, named: NamedMethod) -> str:
        """Return the digest of the file of the classifier that a method is guided by, or "" if none guides."""
        from lab.guidance.method import guided_by
        from lab.machine.files import digest

        files = {"": None, "guide": self.experiment.guide_file, "judge": self.experiment.evaluator_file}
        return "" if (file := files[guided_by(named.method)]) is None else digest(file)

    def cells(
        self,
        checkpoints: Iterable[KeptCheckpoint],
        methods: Sequence[NamedMethod],
        weights: Sequence[float],
        weakest: Path | None = None,
    ) -> list[SweepCell]:
        """Return the cells of some checkpoints: one for each checkpoint, method, weight and label-set file.

        Args:
            checkpoints: the checkpoints.
            methods: methods of guidance. Those that need a weaker checkpoint have no cells of the weakest itself. Those
                for students have none of the teacher, and the others none of its student.
            weights: guidance weights.
            weakest: the file of the checkpoint that such methods guide away from.
        """
        from lab.machine.files import digest
        from lab.sweep.cells import SweepCell

        weaker_digest = "" if weakest is None else digest(weakest)
        weaker = {} if weakest is None else {"weaker_checkpoint": weaker_name(self.experiment, weakest)}
        weaker |= {"weaker_digest": weaker_digest} if weaker else {}
        has_student = student_weights(self.experiment.denoiser) is not None
        return [
            SweepCell(
                checkpoint=kept.path.stem,
                epoch=kept.epoch,
                step=kept.step,
                checkpoint_digest=checkpoint_digest,
                evaluator_digest=self._evaluator_digest,
                label_set_file=name,
                label_sets=sets,
                method_name=named.name,
                method=named.method,
                guidance_weight=float(weight),
                sampler=self.experiment.sampler,
                precision=self.computation.precision,
                seeds=self.experiment.sweep.seeds,
                guide_digest=guide_digest,
                ema_length=kept.ema_length,
                **(weaker if named.method.facts.needs_weaker else {}),
            )
            for kept, checkpoint_digest in [(kept, digest(kept.path)) for kept in checkpoints]
            for named, guide_digest in [(named, self._guide_digest(named)) for named in methods]
            # Guided by itself, a checkpoint is unguided at twice the cost.
            if not (named.method.facts.needs_weaker and checkpoint_digest == weaker_digest)
            if named.method.facts.for_students == (has_student and kept.path.stem != TEACHER)
            for weight in weights
            for name, sets in self.label_sets.items()
        ]

    def unguided_cells(self, kept: KeptCheckpoint) -> list[SweepCell]:
        """Return a checkpoint's cells at w = 0, as the whole sweep has them: a student's own, or of plain guidance."""
        from lab.guidance.methods import named_methods

        return self.cells([kept], named_methods(["plain", "distilled"]), [0.0])

    def run(self, cells: Sequence[SweepCell]) -> Iterator[StoredResult]:
        """Yield the result of every cell in order, running in this process those that have none yet."""
        from lab.sweep.run import run_sweep

        experiment = self.experiment
        folder, vocabulary = experiment.checkpoints / CELLS, self.evaluators.first.vocabulary
        return run_sweep(cells, experiment.swept_checkpoints, vocabulary, self._engine, folder, experiment.weak_file)

    @property
    def _engine(self) -> Engine:
        from lab.sweep.run import Engine

        computation, evaluators = self.computation, self.evaluators
        return Engine(
            judge_of(evaluators.first),
            computation.device,
            computation.compiled,
            self.experiment.sweep.batch_size,
            evaluators.classifiers,
            self.experiment.sweep.threads,
        )

    def run_spread(self, cells: Sequence[SweepCell]) -> Iterator[StoredResult]:
        """Yield the result of every cell, having workers run those that have none yet, if the settings say so.

        With workers, results come in the order of completion.
        """
        import torch

        from lab.machine.cluster import on_cluster
        from lab.machine.devices import chosen_devices
        from lab.machine.files import digest
        from lab.machine.processes import on_processes
        from lab.sweep.run import Bench
        from lab.sweep.spread import SweepWork, spread_sweep

        experiment, vocabulary = self.experiment, self.evaluators.first.vocabulary
        workers = experiment.sweep.workers or len(chosen_devices(experiment.device))
        cluster = experiment.sweep.cluster
        if workers == 1 and not cluster:
            return self.run(cells)
        files = (experiment.evaluator_file, *([experiment.guide_file] if self.evaluators.guide else []))
        work = SweepWork(
            checkpoints=experiment.swept_checkpoints,
            vocabulary=vocabulary,
            classifiers=files,
            digests=tuple(map(digest, files)),
            load_classifiers=loaded_classifiers,
            device=experiment.device,
            compiled=experiment.compiled,
            threads=experiment.sweep.threads or torch.get_num_threads(),
            weaker=experiment.weak_file,
        )
        bench = Bench(experiment.swept_checkpoints, vocabulary, self._engine, experiment.weak_file)
        folder = experiment.checkpoints / CELLS
        compute = partial(on_cluster, address=cluster) if cluster else partial(on_processes, workers=workers)
        return spread_sweep(cells, work, bench, folder, compute)

    def run_all(
        self, checkpoints: list[KeptCheckpoint], rebuilt: Sequence[KeptCheckpoint] = ()
    ) -> tuple[list[StoredResult], list[StoredResult]]:
        """Return the result of every cell of the sweep, and the results of earlier sweeps' other cells.

        Args:
            checkpoints: all checkpoints of the training, in order.
            rebuilt: those with EMAs of other lengths, which are swept too.
        """
        from tqdm import tqdm

        from lab.guidance.methods import named_methods
        from lab.machine.files import digest
        from lab.sweep.cells import earlier_results

        experiment = self.experiment
        # By default the run's own first checkpoint, which was trained least.
        weakest = experiment.weak_file or checkpoints[0].path
        swept_checkpoints = [*checkpoints[-experiment.sweep.newest :], *rebuilt]
        methods = named_methods(experiment.guidance.method)
        needs_weaker = any(named.method.facts.needs_weaker for named in methods)
        teacher = swept_teacher(experiment, methods)
        # Of a student, auto guides the teacher alone.
        guided = swept_checkpoints if teacher is None else [teacher]
        if needs_weaker and digest(weakest) in {digest(kept.path) for kept in guided}:
            print(
                f"auto: {weakest.stem} is the weak checkpoint and cannot guide itself; it gets no rows",
                file=sys.stderr,
            )
        if teacher is not None:
            swept_checkpoints = [teacher, *swept_checkpoints]
        weights = experiment.sweep.guidance_weights
        cells = self.cells(swept_checkpoints, methods, weights, weakest if needs_weaker else None)
        if not cells:
            raise LabError(f"--weak-checkpoint {weakest} is the only checkpoint that is swept; give a weaker one")
        results = tqdm(self.run_spread(cells), desc="sweep", total=len(cells), unit="cell")
        by_key = {result.cell.key: result for result in results}
        finished = [by_key[cell.key] for cell in cells]
        earlier, unreadable = earlier_results(experiment.checkpoints / CELLS, cells)
        if unreadable:
            print(
                f"warning: sweep.csv lacks {len(unreadable)} cells of earlier sweeps, which are damaged or of another "
                f"version of the lab; the first is {unreadable[0]}",
                file=sys.stderr,
            )
        return finished, earlier
