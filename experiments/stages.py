"""Stages: evaluator, training, sweep, report, called in order; each finds what an earlier run finished.

torch, pandas and matplotlib take seconds to import, so everything that needs them is imported inside the stages: a
mistake in the configuration is told before.
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.configuration import Experiment
from lab.configuration import require_same_settings
from lab.errors import LabError

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from evaluator.results import JudgedCell
    from evaluator.weights import Evaluator
    from lab.datasets import LabelledImages, Splits
    from lab.labels import ClassVocabulary, LabelSet
    from lab.sweep import CellResult
    from lab.training_runs import KeptCheckpoint, TrainingRun

CONFIG_FILE = "config.json"
STRIP_ROWS = 4


def run(experiment: Experiment) -> None:
    """Call the stages in order; each finds what an earlier run finished and does not do it again."""
    from evaluator.ranking import require_column_names
    from lab.devices import chosen_device
    from lab.labels import load_label_sets

    label_set_files = [experiment.root / path for path in experiment.data.label_sets]
    require_column_names([path.stem for path in label_set_files])
    vocabulary = class_vocabulary(experiment)
    label_sets = {path.stem: load_label_sets(path, vocabulary) for path in label_set_files}
    device = chosen_device(experiment.device)
    refuse_other_report(experiment)
    splits = load_splits(experiment, vocabulary)

    # Whatever can be wrong with the generator is told before minutes are spent on the evaluator.
    training = training_run(experiment, splits.generator, device)
    evaluator = trained_evaluator(experiment, splits, device)
    train(training)
    cells, earlier = swept(experiment, evaluator, training.kept, label_sets, device)
    report(experiment, evaluator, splits, training.log.rows, cells, earlier, device)


def refuse_other_report(experiment: Experiment) -> None:
    """Raise LabError where the report's folder holds the report of other networks, or what is no report."""
    path = experiment.reports / CONFIG_FILE
    if not path.exists():
        if (found := experiment.reports / "sweep.csv").exists():
            raise LabError(f"{found} stands without {path.name}, which tells what it is of; choose another --name")
        return
    try:
        found_settings = json.loads(path.read_text(encoding="utf-8"))["networks"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise LabError(f"{path}: no configuration of this lab; choose another --name, or delete its folder") from None
    require_same_settings(path, found_settings, experiment.evaluator_settings() | experiment.generator_settings())


def write_config(experiment: Experiment, device: torch.device) -> None:
    """Write `config.json`: every setting as resolved, those that decided the networks, and the versions."""
    from evaluator.tables import write_text

    packages = ("torch", "torchvision", "numpy", "scikit-learn", "pandas", "matplotlib")
    content = {
        "experiment": asdict(experiment) | {"device": str(device)},
        "networks": experiment.evaluator_settings() | experiment.generator_settings(),
        "versions": {"python": platform.python_version(), **{package: version(package) for package in packages}},
    }
    write_text(experiment.reports / CONFIG_FILE, json.dumps(content, indent=2, default=Path.as_posix) + "\n")


def class_vocabulary(experiment: Experiment) -> ClassVocabulary:
    """Return the dataset's classes, as `objects.json` beside the images or in data/DATASET names them.

    Class folders are their own vocabulary.
    """
    from lab.image_folders import class_folder_vocabulary
    from lab.labels import load_vocabulary

    if experiment.data.dataset == "class_folders":
        return class_folder_vocabulary(experiment.images)
    beside = experiment.images / "objects.json"
    if beside.exists() or experiment.data.dataset == "scenes":
        return load_vocabulary(beside)
    return load_vocabulary(experiment.root / "data" / experiment.data.dataset / "objects.json")


def load_splits(experiment: Experiment, vocabulary: ClassVocabulary) -> Splits:
    """Return the dataset's three splits, after checking that `objects.json` names its classes."""
    from lab.datasets import DATASETS, stratified_splits

    data = experiment.data
    dataset = DATASETS[data.dataset](data, experiment.images, experiment.cache)
    dataset.vocabulary.require_same(vocabulary, Path(data.dataset))
    return stratified_splits(dataset, data.evaluator_share, data.held_out_share, data.seed)


def trained_evaluator(experiment: Experiment, splits: Splits, device: torch.device) -> Evaluator:
    """Return the evaluator: the file that was asked for, or this experiment's own, trained where there is none yet."""
    from tqdm import tqdm

    from evaluator.classifiers import build_classifier
    from evaluator.training import train_classifier
    from evaluator.weights import Evaluator, load_evaluator, save_evaluator

    path, config = experiment.evaluator_file, experiment.evaluator
    vocabulary, image_shape = splits.evaluator.vocabulary, splits.evaluator.image_shape
    if config.weights is None and not path.exists():
        classifier = build_classifier(config, image_shape[0], len(vocabulary), experiment.seed).to(device)
        epochs = train_classifier(classifier, splits.evaluator, config, experiment.seed)
        for _ in tqdm(epochs, desc="evaluator", total=config.epochs, unit="epoch"):
            pass
        settings = experiment.evaluator_settings()
        save_evaluator(path, Evaluator(config, image_shape, vocabulary, classifier, settings))
    evaluator = load_evaluator(path, vocabulary, device)
    if config.weights is None:
        require_same_settings(path, evaluator.settings, experiment.evaluator_settings())
    evaluator.require_image_shape(image_shape, path)
    return evaluator


def training_run(experiment: Experiment, dataset: LabelledImages, device: torch.device) -> TrainingRun:
    """Return the training of an experiment, its network built and its folder checked; nothing is written yet."""
    from lab.schedules import noise_schedule
    from lab.training_runs import TrainingRun

    if (warning := noise_schedule(experiment.schedule).warning()) is not None:
        print(f"warning: {warning}", file=sys.stderr)
    return TrainingRun(
        experiment.checkpoints,
        dataset,
        experiment.denoiser,
        experiment.schedule,
        experiment.training,
        experiment.seed,
        experiment.generator_settings(),
        device,
    )


def train(run: TrainingRun) -> None:
    """Train to the end, from where an earlier run stopped."""
    from tqdm import tqdm

    with tqdm(desc="training", total=run.total_steps, initial=run.steps_so_far, unit="step") as progress:
        for step in run.steps():
            progress.set_postfix(epoch=step.epoch, loss=f"{step.loss:.4f}", refresh=False)
            progress.update()


def swept(
    experiment: Experiment,
    evaluator: Evaluator,
    checkpoints: list[KeptCheckpoint],
    label_sets: dict[str, tuple[LabelSet, ...]],
    device: torch.device,
) -> tuple[list[CellResult], list[CellResult]]:
    """Return the result of every cell of the sweep, running those that have none yet, and earlier sweeps' others."""
    from tqdm import tqdm

    from evaluator.classifiers import logits_in_batches
    from lab.files import digest
    from lab.guidance import settings_of
    from lab.sweep import SweepCell, earlier_results, run_sweep
    from lab.types import ClassLogits, PixelImages

    def judge(pixels: PixelImages) -> ClassLogits:
        return logits_in_batches(evaluator.classifier, pixels)

    folder, evaluator_digest = experiment.checkpoints, digest(experiment.evaluator_file)
    methods = {method: settings_of(method, experiment.guidance) for method in experiment.guidance.method}
    if "auto" in methods:
        # The run's own first checkpoint, which was trained least.
        methods["auto"] = {"weak_checkpoint": checkpoints[0].path.stem, "weak_digest": digest(checkpoints[0].path)}
    cells = [
        SweepCell(
            checkpoint=kept.path.stem,
            epoch=kept.epoch,
            step=kept.step,
            checkpoint_digest=checkpoint_digest,
            evaluator_digest=evaluator_digest,
            label_set=name,
            label_sets=sets,
            guidance_method=method,
            guidance_settings=settings,
            guidance_weight=float(weight),
            sampler=experiment.sampler,
            seeds=experiment.sweep.seeds,
        )
        for kept, checkpoint_digest in [(kept, digest(kept.path)) for kept in checkpoints]
        for name, sets in label_sets.items()
        for method, settings in methods.items()
        for weight in experiment.sweep.guidance_weights
    ]
    batch_size = experiment.sweep.batch_size
    results = run_sweep(cells, folder, evaluator.vocabulary, judge, batch_size, device, folder / "cells")
    finished = list(tqdm(results, desc="sweep", total=len(cells), unit="cell"))
    return finished, earlier_results(folder / "cells", cells)


def told(settings: dict[str, Any]) -> str:
    """Return a method's settings as one cell of a table, like "phi=0.7"; digests are left out."""
    return " ".join(f"{name}={value}" for name, value in settings.items() if not name.endswith("digest"))


def judged(experiment: Experiment, result: CellResult) -> JudgedCell:
    """Return a finished cell as the evaluator's tables want it: the columns of `sweep.csv`, images and logits."""
    from evaluator.results import JudgedCell

    cell, images = result.cell, len(result.logits)
    return JudgedCell(
        settings={
            "experiment": experiment.name,
            "checkpoint": cell.checkpoint,
            "epoch": cell.epoch,
            "step": cell.step,
            "label_set": cell.label_set,
            "guidance_method": cell.guidance_method,
            "guidance_settings": told(cell.guidance_settings),
            "guidance_weight": cell.guidance_weight,
            "guidance_scale": 1 + cell.guidance_weight,
            "sampler": cell.sampler.kind,
            "sampling_steps": cell.sampler.sampling_steps,
            "network_evaluations": result.network_evaluations,
            "seeds": cell.seeds,
        },
        cost={
            "seconds": round(result.seconds, 3),
            "images_per_second": round(images / result.seconds, 1),
            "device": result.device,
            "precision": result.precision,
        },
        label_sets=cell.asked,
        pixels=result.pixels,
        logits=result.logits,
    )


def report(
    experiment: Experiment,
    evaluator: Evaluator,
    splits: Splits,
    training_log: list[dict[str, float]],
    cells: list[CellResult],
    earlier: list[CellResult],
    device: torch.device,
) -> None:
    """Write `reports/NAME/`, then print the five best rows and where the report is."""
    import pandas as pd

    from evaluator.classifiers import logits_in_batches
    from evaluator.report import top_rows, write_report
    from evaluator.results import Results
    from lab.checkpoints import load_checkpoint
    from lab.schedules import noise_schedule
    from lab.sweep import denoising_strip

    held_out, folder = splits.held_out, experiment.reports
    results = Results(
        vocabulary=held_out.vocabulary,
        cells=[judged(experiment, cell) for cell in cells],
        earlier=[judged(experiment, cell) for cell in earlier],
        held_out_logits=logits_in_batches(evaluator.classifier, held_out.pixels),
        held_out_conditions=held_out.conditions,
    )
    best = results.best
    best_cell = next(
        result.cell
        for result in cells
        if (result.cell.checkpoint, result.cell.guidance_method, result.cell.guidance_weight)
        == (best["checkpoint"], best["guidance_method"], best["guidance_weight"])
    )
    checkpoint = load_checkpoint(experiment.checkpoints / f"{best_cell.checkpoint}.pt", held_out.vocabulary)
    moments = denoising_strip(checkpoint, best_cell, STRIP_ROWS, device, experiment.checkpoints)
    warning = noise_schedule(experiment.schedule).warning()
    # First, so that a report that is cut off in the middle is known for this experiment's and made again.
    write_config(experiment, device)
    write_report(
        folder,
        experiment.name,
        results,
        evaluator=results.evaluator(evaluator.classifier, training_images=len(splits.evaluator)),
        training=pd.DataFrame(training_log),
        moments=moments,
        warnings=[warning] if warning else [],
    )
    link_by_accuracy(experiment, results.ranking)
    print(top_rows(results, 5))
    print(f"report: {folder / 'report.md'}")


def link_by_accuracy(experiment: Experiment, ranked: pd.DataFrame) -> None:
    """Name every checkpoint by its best row, as the coursework does: `by_accuracy/epoch315_0.6250_0.6190.pt`.

    Args:
        experiment: whose checkpoints.
        ranked: the ranking; a checkpoint's accuracies are those of its first row, on every label-set file.
    """
    folder = experiment.checkpoints / "by_accuracy"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("epoch*_*.pt"):
        old.unlink()
    for _, row in ranked.drop_duplicates("checkpoint").iterrows():
        accuracies = "_".join(f"{row[path.stem]:.4f}" for path in experiment.data.label_sets)
        named = folder / f"epoch{row['epoch']}_{accuracies}.pt"
        checkpoint = experiment.checkpoints / f"{row['checkpoint']}.pt"
        try:
            named.hardlink_to(checkpoint)  # a second name of the same file takes no room
        except OSError:  # on a file system that has no second names
            shutil.copy2(checkpoint, named)
