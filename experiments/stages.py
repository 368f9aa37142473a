"""Stages: evaluator, training, sweep, report, in this order. Each continues where an earlier run stopped.

torch, pandas and matplotlib take seconds to import, so the stages import them: wrong settings are refused first.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.configuration import Experiment
from experiments.distillation import of_student, require_guidance_of_students, teacher_of
from experiments.ema_lengths import rebuilt_checkpoints
from experiments.evaluators import guiding_classifier, trained_evaluators
from experiments.previews import remove_previews, write_preview
from experiments.reporting import (
    Evidence,
    quality_warnings,
    refuse_other_report,
    rehearse,
    report,
    sampling_warnings,
    split_warnings,
)
from experiments.running_accuracy import RunningAccuracy
from experiments.selection import require_lift
from experiments.sweep import Sweep
from experiments.tensorboard import TensorBoard, require_tensorboard
from experiments.weaker import require_weaker, require_weaker_fits, weaker_so_far
from lab.errors import LabError
from lab.machine.cluster import require_cluster

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from evaluator.reporting.printed import PrintedResult
    from lab.data.datasets import Splits
    from lab.data.labelled_images import LabelledImages
    from lab.data.labels import ClassVocabulary, LabelSet
    from lab.machine.computation import Computation
    from lab.sweep.cells import StoredResult
    from lab.training.checkpoints import Checkpoint
    from lab.training.runs import TrainingRun


@dataclass(frozen=True)
class Finished:
    """What a finished experiment leaves behind, besides its files.

    Args:
        evidence: what its report is made of.
        newest: the newest checkpoint's file.
        by_epoch: the rows of `accuracy_by_epoch.csv`; none if w = 0 was neither swept nor measured in training.
    """

    evidence: Evidence
    newest: Path
    by_epoch: pd.DataFrame

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The newest checkpoint."""
        from lab.training.checkpoints import load_checkpoint

        return load_checkpoint(self.newest, self.evidence.splits.generator.vocabulary)


def run(experiment: Experiment, printed: Sequence[PrintedResult] = ()) -> Finished:
    """Call the stages in order; each finds what an earlier run finished and does not do it again.

    Args:
        experiment: the experiment.
        printed: results that its source printed, for its table of baselines.
    """
    from evaluator.judging.ranking import require_column_names
    from lab.data.labels import load_label_sets
    from lab.machine.files import remove_leftovers
    from lab.machine.locks import locked

    label_set_files = [experiment.root / path for path in experiment.data.label_sets]
    require_column_names(experiment.data.label_set_names)
    vocabulary = class_vocabulary(experiment)
    experiment = of_student(starting_from_imported(with_imported_network(experiment, vocabulary)))
    label_sets = {
        name: load_label_sets(path, vocabulary)
        for name, path in zip(experiment.data.label_set_names, label_set_files, strict=True)
    }
    computation = computation_of(experiment)
    if experiment.tensorboard:
        require_tensorboard()
    if experiment.sweep.cluster:
        require_cluster()
    require_guidance(experiment, vocabulary, label_sets)
    require_lift(experiment)
    refuse_other_report(experiment)
    splits = load_splits(experiment, vocabulary)
    if experiment.second_evaluator.share:
        require_quality(splits, "add images, or set --second-evaluator.share to 0")
    warnings = (
        sampling_warnings(experiment, vocabulary, label_sets),
        split_warnings(experiment, splits),
        quality_warnings(experiment, label_sets),
    )
    for warning in chain(*warnings):
        print(f"warning: {warning}", file=sys.stderr)

    # A mistake in the generator's settings is reported before anything is written or minutes go into the evaluator.
    training = training_run(experiment, splits.generator, computation)
    require_weaker(experiment, len(training.kept))
    require_weaker_fits(experiment, training)
    print(f"computing on {computation.device} in {computation.precision}", file=sys.stderr)
    with ExitStack() as locks:
        for folder in sorted({experiment.checkpoints, experiment.swept_checkpoints}):
            locks.enter_context(locked(folder))
        for folder in (experiment.checkpoints, experiment.swept_checkpoints, experiment.reports):
            remove_leftovers(folder)
        rehearse(experiment, vocabulary)
        # Read again: before the lock was had, another run may have trained further.
        training = training_run(experiment, splits.generator, computation)
        evaluators = replace(
            trained_evaluators(experiment, splits.evaluator, computation.device),
            guide=guiding_classifier(experiment, splits.generator, computation.device),
        )
        sweep = Sweep(experiment, evaluators, label_sets, computation)
        measured = train(experiment, training, sweep)
        cells, earlier = sweep.run_all(training.kept, rebuilt_checkpoints(experiment, training))
        log = training.log
        evidence = Evidence(
            experiment, computation, splits, evaluators, log.rows, log.losses, cells, earlier, measured, printed
        )
        by_epoch = report(evidence)
    return Finished(evidence, training.kept[-1].path, by_epoch)


def computation_of(experiment: Experiment) -> Computation:
    """Return where and how an experiment's denoiser is computed.

    Raises:
        LabError: the device is not there, or has no such precision.
    """
    from lab.machine.computation import chosen_computation

    return chosen_computation(experiment.device, experiment.precision, experiment.denoiser.width, experiment.compiled)


def require_guidance(
    experiment: Experiment, vocabulary: ClassVocabulary, label_sets: dict[str, tuple[LabelSet, ...]]
) -> None:
    """Raise LabError unless every method of guidance fits the sampler, training, denoiser and label sets."""
    from lab.diffusion.schedules import noise_schedule
    from lab.guidance.methods import named_methods
    from lab.sweep.fit import require_fit, require_known_conditions

    methods = named_methods(experiment.guidance.method)
    schedule = noise_schedule(experiment.schedule)
    require_fit(experiment.sampler, methods, schedule, vocabulary)
    require_guidance_of_students(experiment, methods)
    require_known_conditions(
        experiment.denoiser,
        methods,
        experiment.sweep.guidance_weights,
        experiment.sampler,
        schedule,
        vocabulary,
        [label_set for sets in label_sets.values() for label_set in sets],
    )
    require_weaker(experiment, len(experiment.training.kept_epochs))


def require_quality(splits: Splits, remedy: str) -> None:
    """Raise LabError, with what to do, if the splits have too few images for the measures of quality."""
    from evaluator.quality.measures import SMALLEST_SAMPLE

    sizes = {"generator": len(splits.generator), "held out": len(splits.held_out)}
    for name, size in sizes.items():
        if size < SMALLEST_SAMPLE:
            raise LabError(
                f"the split {name!r} has {size} images, and the measures of quality need {SMALLEST_SAMPLE} for their "
                f"neighbours; {remedy}"
            )


def class_vocabulary(experiment: Experiment) -> ClassVocabulary:
    """Return the dataset's classes, as `objects.json` beside the images or in data/DATASET names them.

    Class folders are their own vocabulary; that of scenes lies with their `train.json`.
    """
    from lab.data.datasets import load_dataset
    from lab.data.image_folders import class_folder_vocabulary, scene_vocabulary
    from lab.data.labels import load_vocabulary

    if experiment.data.dataset == "class_folders":
        return class_folder_vocabulary(experiment.images)
    if experiment.data.dataset == "scenes":
        return scene_vocabulary(experiment.images, experiment.labels_folder)
    places = (experiment.images / "objects.json", experiment.root / "data" / experiment.data.dataset / "objects.json")
    for place in places:
        if place.exists():
            return load_vocabulary(place)
    # A dataset without such a file is its own vocabulary; one that nobody knows is refused here.
    return load_dataset(experiment.data, experiment.images, experiment.cache).vocabulary


def with_imported_network(experiment: Experiment, vocabulary: ClassVocabulary) -> Experiment:
    """Return an experiment that trains nothing with the network and noise schedule of the checkpoint it sweeps."""
    from lab.training.checkpoints import load_checkpoint
    from lab.training.runs import kept_name

    path = experiment.swept_checkpoints / kept_name(0)
    if experiment.training.epochs or not path.exists():
        return experiment
    imported = load_checkpoint(path, vocabulary)
    return replace(experiment, denoiser=imported.denoiser, schedule=imported.schedule)  # type: ignore[arg-type]  # a file may hold any kind


def starting_from_imported(experiment: Experiment) -> Experiment:
    """Return an experiment that starts from an imported checkpoint with that checkpoint's network.

    Its noise schedule stays the experiment's own: a training may use another one than the weights were trained on.
    """
    from lab.configuration.networks import ImportedUNet2DConfig
    from lab.training.checkpoints import read_checkpoint

    if experiment.training.start_from is None:
        return experiment
    path = experiment.root / experiment.training.start_from
    denoiser = read_checkpoint(path).denoiser
    if not isinstance(denoiser, ImportedUNet2DConfig):
        return experiment
    # No option describes an imported network.
    print(f"the network is that of {path}; --denoiser options are not used", file=sys.stderr)
    return replace(experiment, denoiser=denoiser)


def load_splits(experiment: Experiment, vocabulary: ClassVocabulary) -> Splits:
    """Return the dataset's three splits, after checking that `objects.json` names its classes."""
    from lab.data.datasets import load_dataset, stratified_splits

    data = replace(experiment.data, labels_folder=experiment.labels_folder)
    dataset = load_dataset(data, experiment.images, experiment.cache)
    dataset.vocabulary.require_same(vocabulary, Path(data.dataset))
    return stratified_splits(dataset, experiment.evaluator_share, data.held_out_share, data.seed)


def training_run(experiment: Experiment, dataset: LabelledImages, computation: Computation) -> TrainingRun:
    """Return the training of an experiment, its network built and its folder checked; nothing is written yet."""
    from lab.training.recipe import Recipe
    from lab.training.runs import TrainingRun

    start = experiment.training.start_from
    training = replace(experiment.training, start_from=None if start is None else experiment.root / start)
    recipe = Recipe(experiment.denoiser, experiment.schedule, training, experiment.seed, teacher_of(experiment))
    return TrainingRun(experiment.swept_checkpoints, dataset, recipe, experiment.generator_settings(), computation)


@dataclass(frozen=True)
class Comparison:
    """What several runs of one experiment have in common.

    Args:
        computation: where and how their networks are computed.
        vocabulary: the classes.
        splits: who sees which images.
    """

    computation: Computation
    vocabulary: ClassVocabulary
    splits: Splits


@contextmanager
def whole_comparison(experiment: Experiment) -> Iterator[Comparison]:
    """Hold the folders of an experiment whose runs are compared, and check them before anything is trained.

    The folders are cleared of what killed runs left half written.
    """
    from lab.machine.files import remove_leftovers
    from lab.machine.locks import locked

    with locked(experiment.checkpoints):
        for folder in (experiment.checkpoints, experiment.reports):
            remove_leftovers(folder)
        computation = computation_of(experiment)
        refuse_other_report(experiment)
        vocabulary = class_vocabulary(experiment)
        splits = load_splits(experiment, vocabulary)
        rehearse(experiment, vocabulary)
        yield Comparison(computation, vocabulary, splits)


def sharing_evaluator(experiment: Experiment, splits: Splits, device: torch.device) -> Experiment:
    """Return an experiment whose evaluator is trained and given by its file, for others to be made of and share it.

    Raises:
        LabError: it has a second evaluator, which each of the others would train for itself.
    """
    if experiment.second_evaluator.share:
        raise LabError("--second-evaluator.share is for one experiment; set it to 0 for a comparison of several")
    if experiment.evaluator.weights is not None:
        return experiment
    trained_evaluators(experiment, splits.evaluator, device)
    return replace(experiment, evaluator_of=experiment.evaluator_of or experiment.name)


def train(experiment: Experiment, run: TrainingRun, sweep: Sweep) -> list[StoredResult]:
    """Train to the end, from where an earlier run stopped, with previews and accuracies where they are wanted.

    Returns:
        The cells that were measured on the way.
    """
    from tqdm import tqdm

    every, shown = experiment.preview_every, next(iter(sweep.label_sets.values()))
    if run.steps_so_far == 0:
        remove_previews(experiment)
    elif run.steps_so_far < run.total_steps and (warning := computation_warning(run.log.rows, sweep.computation)):
        print(f"warning: {warning}", file=sys.stderr)

    accuracy = RunningAccuracy(sweep, run)
    # A run that was stopped may have kept its last checkpoint without measuring it.
    so_far = accuracy.measure()
    done, total = run.steps_so_far, run.total_steps
    board = TensorBoard(experiment.reports if experiment.tensorboard and done < total else None, done)
    with closing(board), tqdm(desc="training", total=total, initial=done, unit="step") as progress:
        for measurement in so_far:
            if measurement.step == done:  # the others were written when they were measured
                board.add_accuracies(measurement)
        for step in run.steps():
            progress.set_postfix(epoch=step.epoch, loss=f"{step.loss:.4f}", refresh=False)
            progress.update()
            board.add_step(step)
            if every and step.step % every == 0:
                weak = weaker_so_far(experiment, run.kept[0], step.step)
                preview = write_preview(
                    experiment, run.checkpoint(), weak, shown, sweep.computation, sweep.evaluators.classifiers
                )
                if preview is not None:
                    board.add_preview(preview, step.step)
            if step.ends_epoch and step.epoch in experiment.training.scored_epochs:
                for measurement in accuracy.measure():
                    progress.write(str(measurement), file=sys.stderr)
                    board.add_accuracies(measurement)
    return accuracy.results


def computation_warning(rows: list[dict[str, Any]], computation: Computation) -> str | None:
    """Say in words that a training goes on in another precision, or on a device of another type, than before.

    Args:
        rows: those of `training.csv` so far.
        computation: where and how the training goes on.
    """
    if not rows:
        return None
    before = rows[-1]["precision"], str(rows[-1]["device"]).partition(":")[0]
    now = computation.precision, computation.device.type
    if before == now:
        return None
    epoch = rows[-1]["epoch"]
    return f"epoch {epoch} was trained in {before[0]} on {before[1]}; training goes on in {now[0]} on {now[1]}"
