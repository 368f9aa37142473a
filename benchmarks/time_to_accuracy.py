"""Seconds of training and sampling until guided images reach an accuracy: this lab and others, on the same images.

python -m benchmarks.time_to_accuracy [digits|mnist5k] [ACCURACY] [TIMES]

One evaluator judges all. Each contestant trains on the generator's split, in its authors' batches. After 5 s, 7.5 s,
11 s and so on, it samples 200 images at w = 2. A contestant's time is its training so far and its last sampling;
earlier samplings do not count. A slow sampler first trains for as long as it samples. This lab's quick preset is first;
the others and this lab's other preset may take up to TIMES (20) times its seconds. If sampling alone would take longer,
the row has an estimated time and no accuracy. Writes time_to_accuracy_NAME.csv and .png to reports/reference/.
"""

import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import torch
from diffusers import DDIMScheduler
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from torch import Tensor
from tqdm import tqdm

from benchmarks.contestants import WEIGHT, Contestant, coursework, denoising_diffusion, diffusers_unet
from benchmarks.side_by_side import Row
from evaluator.classifiers.networks import build_classifier, logits_in_batches
from evaluator.classifiers.training import train_classifier
from evaluator.judging.scoring import score
from evaluator.tables import write_csv
from experiments.configuration import Experiment
from experiments.presets import DIGITS, DIGITS_QUICK, ICLEVR_COURSEWORK, MNIST5K, MNIST5K_QUICK
from lab.configuration.networks import ContextUnetConfig
from lab.data.datasets import digits, mnist5k, stratified_splits
from lab.data.labelled_images import LabelledImages, to_float, to_pixels
from lab.diffusion.noise_source import NoiseSource
from lab.diffusion.samplers import sample
from lab.diffusion.schedules import noise_schedule
from lab.guidance.classifier_free import ClassifierFreeGuidance
from lab.machine.computation import Computation
from lab.machine.precision import chosen_precision
from lab.training.recipe import Recipe
from lab.training.trainer import Trainer

IMAGES = 200
CLASSES = torch.arange(IMAGES) % 10
FIRST_SECONDS, GROWTH = 5.0, 1.5
DATASETS = {"digits": (DIGITS_QUICK, DIGITS, digits), "mnist5k": (MNIST5K_QUICK, MNIST5K, mnist5k)}
"""The preset for few seconds, the one for the highest accuracy, and the images."""
PROBED_STEPS = 4
"""Sampler steps that are timed beforehand."""
Accuracy = Callable[[Tensor], float]
"""The accuracy of images in [-1, 1] whose classes are `CLASSES`, under the evaluator that judges all."""


@dataclass(frozen=True)
class Learner:
    """A contestant that trains on real images.

    Args:
        name: name of the contestant.
        steps: takes an optimizer step whenever it is advanced. It may end.
        images: samples one image for each of `CLASSES`, in [-1, 1].
        sampling_seconds: about how long that takes; 0 if it was not timed.
    """

    name: str
    steps: Iterator[object]
    images: Callable[[], Tensor]
    sampling_seconds: float = 0.0


def this_lab(preset: Experiment, images: LabelledImages) -> Learner:
    """Return this lab with the recipe of a preset."""
    schedule = noise_schedule(preset.schedule)
    width = preset.denoiser.width
    computation = Computation(precision=chosen_precision("auto", torch.device("cpu"), width))
    trainer = Trainer(Recipe(preset.denoiser, preset.schedule, preset.training), images, computation)

    def sampled() -> Tensor:
        noise = NoiseSource([(0, image) for image in range(IMAGES)], images.image_shape)
        guidance = ClassifierFreeGuidance(trainer.checkpoint().noise_predictor(computation), WEIGHT)
        return sample(guidance, schedule, preset.sampler, torch.eye(10)[CLASSES], noise)

    return Learner(f"this lab, {preset.name}", trainer.steps(), sampled)


def other(contestant: Contestant, images: LabelledImages, batch_size: int) -> Learner:
    """Return another contestant, on random batches of these images.

    Args:
        contestant: the contestant.
        images: the images.
        batch_size: the authors' batch.
    """

    def steps() -> Iterator[object]:
        generator = torch.Generator().manual_seed(0)
        pixels, classes = to_float(images.pixels), images.conditions.argmax(dim=1)
        while True:
            # Whole batches: what remains of an epoch is one image of the digits.
            whole = torch.randperm(len(pixels), generator=generator)[: len(pixels) // batch_size * batch_size]
            for batch in torch.split(whole, batch_size):
                yield contestant.train(pixels[batch], classes[batch])

    contestant.sample(CLASSES, 1)  # torch's one-time work does not count
    started = time.perf_counter()
    contestant.sample(CLASSES, PROBED_STEPS)
    seconds = (time.perf_counter() - started) * contestant.sampling_steps / PROBED_STEPS
    return Learner(contestant.name, steps(), lambda: contestant.sample(CLASSES, contestant.sampling_steps), seconds)


def learning_curve(learner: Learner, accuracy: Accuracy, wanted: float, seconds: float = float("inf")) -> list[Row]:
    """Return a row for each time that a contestant sampled, the last one of which reached the accuracy or was too late.

    Args:
        learner: the contestant.
        accuracy: of its images.
        wanted: the accuracy that ends it.
        seconds: the most that its training and one sampling may take.
    """
    longest = seconds - learner.sampling_seconds
    if longest <= 0:
        return [curve_row(learner, 0.0, learner.sampling_seconds, float("nan"), wanted)]
    rows: list[Row] = []
    # A sampler may take longer than the training so far; it is not to take most of the time.
    trained, until, ended = 0.0, min(max(FIRST_SECONDS, learner.sampling_seconds), longest), False
    with tqdm(desc=learner.name, unit="s", total=round(longest) if math.isfinite(longest) else None) as progress:
        while True:
            started = time.perf_counter()
            while not ended and trained + time.perf_counter() - started < until:
                ended = next(learner.steps, learner) is learner
            trained += time.perf_counter() - started
            started = time.perf_counter()
            found = accuracy(learner.images())
            sampled = time.perf_counter() - started
            rows.append(curve_row(learner, trained, sampled, found, wanted))
            progress.update(round(trained) - progress.n)
            progress.set_postfix(accuracy=found)
            if found >= wanted or ended or until >= longest:
                return rows
            until = min(max(until * GROWTH, sampled), longest)


def curve_row(learner: Learner, trained: float, sampled: float, accuracy: float, wanted: float) -> Row:
    """Return a row of a learning curve, the seconds of training so far and of one sampling."""
    return {
        "of": learner.name,
        "training_seconds": trained,
        "sampling_seconds": sampled,
        "seconds": trained + sampled,
        "accuracy": accuracy,
        "reached": float(accuracy >= wanted),
    }


def until_reached(learner: Learner, accuracy: Accuracy, wanted: float) -> list[Row]:
    """Return the learning curve of a contestant, and end the program if its training ends below the accuracy."""
    rows = learning_curve(learner, accuracy, wanted)
    if not rows[-1]["reached"]:
        raise SystemExit(f"{learner.name}: the accuracy is {rows[-1]['accuracy']:.3f} at the end, below {wanted}")
    return rows


def judged(preset: Experiment, load: Callable[[], LabelledImages]) -> tuple[LabelledImages, Accuracy]:
    """Return the images to train on, and the accuracy under the preset's evaluator, which is trained first."""
    splits = stratified_splits(load(), preset.data.evaluator_share, preset.data.held_out_share, preset.data.seed)
    classifier = build_classifier(preset.evaluator, 1, 10, 0)
    for _ in tqdm(train_classifier(classifier, splits.evaluator, preset.evaluator, 0), desc="evaluator"):
        pass

    def accuracy(images: Tensor) -> float:
        return score(logits_in_batches(classifier, to_pixels(images)), torch.eye(10)[CLASSES]).accuracy().value

    return splits.generator, accuracy


def time_to_accuracy(name: str, wanted: float, times: float) -> Iterator[pd.DataFrame]:
    """Yield the learning curves so far, after each contestant."""
    quick, preset, load = DATASETS[name]
    images, accuracy = judged(preset, load)
    rows = until_reached(this_lab(quick, images), accuracy, wanted)
    seconds = times * float(rows[-1]["seconds"])
    side = images.image_shape[1]
    plain = ICLEVR_COURSEWORK.denoiser
    assert isinstance(plain, ContextUnetConfig)
    assert isinstance(preset.denoiser, ContextUnetConfig)
    # As wide as this lab's preset, which is narrower than what any of their authors take.
    plain = replace(plain, n_feat=preset.denoiser.n_feat, pool=7 if side == 28 else 0)
    recipe = coursework(plain, side)
    contestants: list[Callable[[], Learner]] = [
        # The authors' batches: diffusers' unconditional example 16, the coursework's 128, denoising_diffusion's 32.
        lambda: other(diffusers_unet(recipe.parameters, side, DDIMScheduler(num_train_timesteps=1000), 50), images, 16),
        lambda: other(recipe, images, 128),
        lambda: other(denoising_diffusion(recipe.parameters, side), images, 32),
        lambda: this_lab(preset, images),
    ]
    for contestant in contestants:
        rows += learning_curve(contestant(), accuracy, wanted, seconds)
        yield pd.DataFrame(rows)


def seconds_to(table: pd.DataFrame, accuracies: tuple[float, ...]) -> pd.DataFrame:
    """Return a row for each contestant: its seconds to each accuracy, missing if it was not reached, and its last."""
    summary = table.groupby("of", sort=False)[["seconds", "accuracy"]].last().add_prefix("last_")
    for accuracy in dict.fromkeys(accuracies):
        reached = table[table["accuracy"] >= accuracy].groupby("of", sort=False)["seconds"].first()
        summary.insert(0, f"seconds_to_{accuracy:g}", reached)
    return summary


def drawn(table: pd.DataFrame, wanted: float) -> Figure:
    """Return accuracy against seconds, a line a contestant."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xscale="log", xlabel="seconds of training and one sampling", ylabel="accuracy at w = 2")
    for name, curve in table.groupby("of", sort=False):
        axes.plot(curve["seconds"], curve["accuracy"], marker="o", label=name)
    axes.axhline(wanted, color="grey", linestyle=":")
    axes.set_ylim(0, 1.02)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def main(name: str = "digits", wanted: str = "0.95", times: str = "20") -> None:
    """Run all contestants, write the table and the figure after each, and print the seconds of all."""
    path = Path("reports/reference", f"time_to_accuracy_{name}.csv")
    for table in time_to_accuracy(name, float(wanted), float(times)):
        write_csv(path, table)
        drawn(table, float(wanted)).savefig(path.with_suffix(".png"), dpi=150)
    print(
        seconds_to(table, (float(wanted), min(0.95, float(wanted)))).to_string(
            float_format="{:.3g}".format, na_rep="not reached"
        )
    )
    print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
