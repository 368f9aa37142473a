"""The last stage: what the cells say, as tables, figures and a page in `reports/NAME/`."""

from __future__ import annotations

import json
import platform
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.configuration import Experiment
from experiments.judged_cells import guidance_problems, judged
from lab.configuration.checks import as_primitives
from lab.configuration.distillation import TEACHER
from lab.configuration.training import require_same_training
from lab.errors import LabError, listed
from lab.machine.files import require_writable

if TYPE_CHECKING:
    import pandas as pd

    from evaluator.classifiers.weights import Evaluator
    from evaluator.reporting.printed import PrintedResult
    from evaluator.reporting.results import Results
    from experiments.evaluators import Evaluators
    from lab.data.datasets import Splits
    from lab.data.labelled_images import LabelledImages
    from lab.data.labels import ClassVocabulary, LabelSet
    from lab.machine.computation import Computation
    from lab.sweep.cells import StoredResult

CONFIG_FILE = "config.json"
CELLS = "cells"
BY_ACCURACY = "by_accuracy"


def refuse_other_report(experiment: Experiment) -> None:
    """Raise LabError where the report's folder holds the report of other networks, or what is no report."""
    refuse_other_networks(experiment.reports, experiment.evaluator_settings() | experiment.generator_settings())


def refuse_other_networks(folder: Path, networks: Mapping[str, Any]) -> None:
    """Raise LabError where a folder holds the report of networks of other settings, or what is no report."""
    path = folder / CONFIG_FILE
    if not path.exists():
        for found in (folder / "sweep.csv", folder / "losses.csv"):
            if found.exists():
                raise LabError(f"{found} stands without {path.name}, which tells what it is of; choose another --name")
        return
    try:
        found_settings = json.loads(path.read_text(encoding="utf-8"))["networks"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise LabError(f"{path}: no configuration of this lab; choose another --name, or delete its folder") from None
    require_same_training(path, found_settings, networks)


def rehearse(experiment: Experiment, vocabulary: ClassVocabulary) -> None:
    """Try at the beginning of a run what it needs at the end, and print what the user should know before.

    Raises:
        LabError: the report could not be made, or a folder cannot be written to.
    """
    from evaluator.reporting.rehearsal import rehearse_report

    for folder in (experiment.checkpoints / CELLS, experiment.checkpoints / BY_ACCURACY):
        require_writable(folder)
    for warning in rehearse_report(experiment.reports, vocabulary.names, experiment.data.label_set_names):
        _warn_once(warning)


@cache
def _warn_once(warning: str) -> None:
    """Print a warning, one time for all experiments that are compared."""
    print(f"warning: {warning}", file=sys.stderr)


def write_config(experiment: Experiment, computation: Computation) -> None:
    """Write `config.json`: every setting as resolved, those that decided the networks, and the versions."""
    networks = experiment.evaluator_settings() | experiment.generator_settings()
    write_settings(experiment.reports, asdict(experiment), networks, computation)


def write_settings(
    folder: Path, settings: Mapping[str, Any], networks: Mapping[str, Any], computation: Computation
) -> None:
    """Write `config.json` into a report's folder.

    Args:
        folder: the folder.
        settings: every setting of the experiment.
        networks: those that decided the networks.
        computation: where and how the denoiser was computed, which replaces what was chosen as "auto".
    """
    from evaluator.tables import write_text

    packages = ("torch", "torchvision", "numpy", "scikit-learn", "pandas", "matplotlib")
    content = {
        "experiment": {**settings, "device": str(computation.device), "precision": computation.precision},
        "networks": as_primitives(networks),
        "versions": {"python": platform.python_version(), **{package: _version(package) for package in packages}},
    }
    write_text(folder / CONFIG_FILE, json.dumps(content, indent=2, default=Path.as_posix) + "\n")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # it can be imported, but was not installed by a package manager of Python
        return "unknown"


@dataclass(frozen=True)
class Evidence:
    """What an experiment's report is made of.

    Args:
        experiment: all that decided it.
        computation: where and how its networks were computed.
        splits: who saw which images.
        evaluators: its evaluators.
        training_log: the rows of `training.csv`.
        losses: the loss of every optimizer step.
        cells: the result of every cell of the sweep.
        earlier: the results of earlier sweeps of the same checkpoints.
        measured: the results of the cells that were measured while training ran.
        printed: results that the experiment's source printed.
    """

    experiment: Experiment
    computation: Computation
    splits: Splits
    evaluators: Evaluators
    training_log: list[dict[str, Any]]
    losses: list[float]
    cells: list[StoredResult]
    earlier: list[StoredResult]
    measured: list[StoredResult] = field(default_factory=list)
    printed: Sequence[PrintedResult] = ()


def results_of(evidence: Evidence) -> Results:
    """Return the results of the sweep, with the evaluator's opinion of the held-out images."""
    from evaluator.classifiers.networks import logits_in_batches
    from evaluator.reporting.results import Results

    experiment, splits = evidence.experiment, evidence.splits
    return Results(
        vocabulary=splits.held_out.vocabulary,
        cells=[judged(experiment, cell, splits.held_out.vocabulary) for cell in evidence.cells],
        earlier=[judged(experiment, cell, splits.held_out.vocabulary) for cell in evidence.earlier],
        held_out_logits=logits_in_batches(evidence.evaluators.first.classifier, splits.held_out.pixels),
        held_out_conditions=splits.held_out.conditions,
        trained_conditions=splits.generator.conditions,
        splits_without=splits_without_classes(splits_by_name(experiment, splits)),
    )


def report(evidence: Evidence) -> pd.DataFrame:
    """Write `reports/NAME/`, print the five best rows and where the report is.

    Returns:
        The rows of `accuracy_by_epoch.csv`.
    """
    import pandas as pd

    from evaluator.judging.epochs import accuracy_by_epoch
    from evaluator.judging.ranking import accuracy_by_checkpoint
    from evaluator.reporting.denoising import DenoisingMoments, images_shown
    from evaluator.reporting.ema_lengths import kept_rows
    from evaluator.reporting.report import Report, top_rows, write_report
    from evaluator.reporting.results import sweep_rows
    from experiments.selection import best_of
    from lab.diffusion.denoising import timestep_grid
    from lab.diffusion.schedules import noise_schedule
    from lab.sweep.run import denoising_strip
    from lab.training.checkpoints import load_checkpoint

    experiment, splits, evaluators = evidence.experiment, evidence.splits, evidence.evaluators
    held_out, folder = splits.held_out, experiment.reports
    results = results_of(evidence)
    best = results.best
    best_cell = next(
        result.cell
        for result in evidence.cells
        if (result.cell.checkpoint, result.cell.named_method.label, result.cell.guidance_weight)
        == (best["checkpoint"], best["guidance_method"], best["guidance_weight"])
    )
    checkpoint = load_checkpoint(experiment.swept_checkpoints / f"{best_cell.checkpoint}.pt", held_out.vocabulary)
    swept = {result.cell.key for result in evidence.cells}
    measured = sweep_rows(
        [
            judged(experiment, result, held_out.vocabulary)
            for result in evidence.measured
            if result.cell.key not in swept
        ],
        held_out.vocabulary,
    )
    training = pd.DataFrame(evidence.training_log)
    by_epoch = accuracy_by_epoch(pd.concat([kept_rows(results.sweep), measured]), training)
    shown = images_shown(experiment.pictures)
    moments = denoising_strip(
        checkpoint,
        best_cell,
        shown,
        evidence.computation.device,
        experiment.swept_checkpoints,
        evaluators.classifiers,
        experiment.weak_file,
    )
    timesteps = noise_schedule(checkpoint.schedule).timesteps
    grid = timestep_grid(timesteps, best_cell.sampler.sampling_steps)
    label_sets = {cell.cell.label_set_file: cell.cell.label_sets for cell in evidence.cells}
    # First, so that a report that is cut off in the middle is known for this experiment's and made again.
    write_config(experiment, evidence.computation)
    contents = Report(
        experiment.name,
        results,
        splits={name: len(images) for name, images in splits_by_name(experiment, splits).items()},
        evaluator=results.evaluator(evaluators.first.classifier, training_images=evaluators.images),
        training=training,
        by_epoch=by_epoch,
        moments=DenoisingMoments(moments, [*grid, -1]),
        pictures=experiment.pictures,
        quality=None if evaluators.second is None else quality(evaluators.second, splits, results),
        best_of=best_of(evidence, results),
        warnings=[
            *sampling_warnings(experiment, held_out.vocabulary, label_sets),
            *split_warnings(experiment, splits),
            *quality_warnings(experiment, label_sets),
        ],
        start=None
        if (start := experiment.training.start_from or experiment.distillation.teacher) is None
        else str(start),
        printed=evidence.printed,
    )
    write_report(folder, contents)
    # A checkpoint that was measured and not swept keeps the name that it has.
    others = [accuracy_by_checkpoint(measured)] if len(measured) else []
    link_by_accuracy(experiment, pd.concat([results.ranking, *others]))
    print(top_rows(results, 5))
    print(f"report: {folder / 'report.md'}")
    return by_epoch


def splits_by_name(experiment: Experiment, splits: Splits) -> dict[str, LabelledImages]:
    """Return the splits that have images by their name in a report, the second evaluator's among them."""
    from experiments.evaluators import evaluator_parts

    own, second = evaluator_parts(experiment, splits.evaluator)
    named = {"generator": splits.generator, "evaluator": own, "second evaluator": second, "held out": splits.held_out}
    return {name: images for name, images in named.items() if images is not None and len(images)}


def splits_without_classes(splits: Mapping[str, LabelledImages]) -> dict[str, list[str]]:
    """Return the names of the splits that have no image of a class, by the class."""
    from lab.data.datasets import classes_without_images

    without: dict[str, list[str]] = {}
    for name, images in splits.items():
        for class_name in classes_without_images(images):
            without.setdefault(class_name, []).append(name)
    return without


CONSEQUENCES = {
    "generator": "it cannot have learned them",
    "evaluator": "it cannot judge them",
    "second evaluator": "it cannot judge them",
    "held out": "the ceiling says nothing of them",
}


def split_warnings(experiment: Experiment, splits: Splits) -> list[str]:
    """Say in words which classes a split has no image of."""
    from lab.data.datasets import classes_without_images

    return [
        f"the split {name!r} has no image of {listed(lacking)}, so {CONSEQUENCES[name]}"
        for name, images in splits_by_name(experiment, splits).items()
        if (lacking := classes_without_images(images))
    ]


def quality_warnings(experiment: Experiment, label_sets: Mapping[str, Sequence[LabelSet]]) -> list[str]:
    """Say in words which label-set files have too few images for `quality.csv`, if the experiment has one."""
    return (
        too_few_images(experiment.sweep.seeds, label_sets, "quality.csv") if experiment.second_evaluator.share else []
    )


def too_few_images(seeds: int, label_sets: Mapping[str, Sequence[LabelSet]], table: str) -> list[str]:
    """Say in words which label-set files have too few images for the measures of quality in a table."""
    from evaluator.quality.measures import SMALLEST_SAMPLE

    return [
        f"{name}.json has {len(sets) * seeds} images a cell, and the measures of quality need {SMALLEST_SAMPLE}; its "
        f"cells of {table} stay empty (raise --sweep.seeds)"
        for name, sets in label_sets.items()
        if len(sets) * seeds < SMALLEST_SAMPLE
    ]


def sampling_warnings(
    experiment: Experiment, vocabulary: ClassVocabulary, label_sets: Mapping[str, Sequence[LabelSet]]
) -> list[str]:
    """Say in words what a reader should know of the noise schedule and the guidance before believing a number."""
    from lab.diffusion.schedules import noise_schedule
    from lab.guidance.method import guided_by
    from lab.guidance.methods import named_methods

    of_schedule = noise_schedule(experiment.schedule).warning()
    methods, weights = named_methods(experiment.guidance.method), experiment.sweep.guidance_weights
    all_sets = [label_set for of_file in label_sets.values() for label_set in of_file]
    by_judge = [named.label for named in methods if guided_by(named.method) == "judge"]
    return [
        *([] if of_schedule is None else [of_schedule]),
        *(
            f"guidance method {named.label}: {problems}"
            for named in methods
            if (problems := guidance_problems(experiment, named, weights, experiment.sampler, vocabulary, all_sets))
        ),
        *(
            [f"the evaluator guides the images that it judges, which is not to be believed: {', '.join(by_judge)}"]
            if by_judge
            else []
        ),
    ]


def quality(second: Evaluator, splits: Splits, results: Results) -> pd.DataFrame:
    """Return the rows of `quality.csv`, of the best row's checkpoint."""
    from tqdm import tqdm

    from evaluator.quality.measures import QualityMeasures, sample_size

    cells = results.cells_of_best_checkpoint
    images = sample_size([len(cell.logits) for cell in cells], len(splits.held_out))
    measures = QualityMeasures(second.classifier, splits.generator, splits.held_out, images)
    return measures.table(tqdm(cells, desc="quality", unit="cell"))


def link_by_accuracy(experiment: Experiment, ranked: pd.DataFrame) -> None:
    """Name every checkpoint by its best row, and remove the names of checkpoints that have no row.

    Args:
        experiment: whose checkpoints.
        ranked: the ranking; a checkpoint's accuracies are those of its first row, on every label-set file.
    """
    named = ranked[ranked["checkpoint"] != TEACHER].drop_duplicates("checkpoint")
    kept = {_short(checkpoint) for checkpoint in named["checkpoint"]}
    for old in (experiment.checkpoints / BY_ACCURACY).glob("*epoch*_*.pt"):
        if old.name.partition("_")[0] not in kept:
            old.unlink(missing_ok=True)
    for _, row in named.iterrows():
        name_by_accuracy(experiment, row)


def _short(checkpoint: str) -> str:
    """Return a checkpoint's name with its epoch as the coursework writes it: epoch0315 becomes epoch315."""
    return re.sub(r"epoch0*(?=\d)", "epoch", checkpoint)


def name_by_accuracy(experiment: Experiment, row: pd.Series[Any]) -> None:
    """Give a checkpoint a second name, as the coursework does: `by_accuracy/epoch315_0.6250_0.6190.pt`.

    Its earlier second name is removed.

    Args:
        experiment: whose checkpoint.
        row: the checkpoint, and its accuracy on every label-set file under the file's name.
    """
    from lab.machine.files import whole_file

    folder = experiment.checkpoints / BY_ACCURACY
    accuracies = "_".join(f"{row[name]:.4f}" for name in experiment.data.label_set_names)
    short = _short(str(row["checkpoint"]))
    named = folder / f"{short}_{accuracies}.pt"
    checkpoint = experiment.swept_checkpoints / f"{row['checkpoint']}.pt"
    try:
        folder.mkdir(exist_ok=True)
        for old in folder.glob(f"{short}_*.pt"):
            old.unlink()
    except OSError as error:
        raise LabError(
            f"{folder}: cannot write ({error.strerror}); finished work is saved, and the same command resumes it"
        ) from None
    try:
        named.hardlink_to(checkpoint)  # a second name of the same file takes no room
    except OSError:  # on a file system that has no second names
        with whole_file(named) as temporary:
            shutil.copyfile(checkpoint, temporary)
