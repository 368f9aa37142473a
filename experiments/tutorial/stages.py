"""All steps of the tutorial, then the table, the figures and the page: the command `tutorial`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from experiments.reporting import results_of, too_few_images, write_config
from experiments.stages import (
    Comparison,
    Finished,
    require_quality,
    run,
    sharing_evaluator,
    whole_comparison,
)
from experiments.tutorial.configuration import Tutorial
from experiments.tutorial.steps import TutorialStep, tutorial_steps
from lab.configuration.diffusion import LinearScheduleConfig
from lab.configuration.networks import UNet2DConfig
from lab.errors import LabError

if TYPE_CHECKING:
    import numpy as np

    from evaluator.quality.measures import QualityMeasures
    from evaluator.reporting.tutorial import Grid, PrintedLosses
    from lab.data.datasets import Splits

SHOWN = 8
"""Images in a row of a figure of the corruption baseline."""
STRIP = 10
"""Moments of the denoising strip."""
CORRUPTION = {"corruption-basic-5": "BasicUNet", "corruption-unet2d-5": "UNet2DModel"}
"""The trainings of the corruption baseline, and their networks."""
# Of MNIST's 60,000 images in batches of 128; the first network's source leaves out the last batch.
PRINTED = {
    "BasicUNet": (468, (0.028598, 0.021729, 0.019670)),
    "UNet2DModel": (469, (0.012590, 0.011175, 0.010676, 0.010433, 0.010035)),
}
"""Optimizer steps of an epoch, and the mean loss of each, as the sources print them."""


def run_tutorial(tutorial: Tutorial) -> None:
    """Run every step that is not finished, then write `tutorial.csv`, its figures and its page."""
    with whole_comparison(tutorial.base) as comparison:
        _run_tutorial(tutorial, comparison)


def _run_tutorial(tutorial: Tutorial, comparison: Comparison) -> None:
    import pandas as pd

    from evaluator.quality.measures import QualityMeasures, sample_size
    from evaluator.reporting.page.comparison import write_comparison
    from evaluator.reporting.tutorial import TutorialReport, write_tutorial
    from lab.data.labels import load_label_sets
    from lab.diffusion.schedules import noise_schedule

    base = tutorial.base
    computation, vocabulary, splits = comparison.computation, comparison.vocabulary, comparison.splits
    if not len(splits.held_out):
        raise LabError("--data.held-out-share is 0, and the tutorial compares with held-out images; raise it")
    require_quality(splits, "add images, or raise --data.held-out-share")
    label_sets = {base.data.label_set_names[0]: load_label_sets(base.root / base.data.label_sets[0], vocabulary)}
    too_few = too_few_images(base.sweep.seeds, label_sets, "tutorial.csv")
    for line in too_few:
        print(f"warning: {line}", file=sys.stderr)
    finished: dict[str, Finished] = {}
    # Built twice: here only to refuse settings that do not fit together, before minutes go into the evaluator.
    tutorial_steps(tutorial)
    steps = tutorial_steps(tutorial, sharing_evaluator(base, splits, computation.device))
    for name, step in steps.items():
        print(f"{name}: {step.description}", file=sys.stderr)
        finished[name] = run(replace(step.experiment, name=f"{base.name}-{name}"))

    any_step = next(iter(finished.values()))
    classifier = any_step.evidence.evaluators.first.classifier
    sizes = [len(cell.logits) for step in finished.values() for cell in step.evidence.cells]
    images = sample_size(sizes, len(splits.held_out))
    measures = QualityMeasures(classifier, splits.generator, splits.held_out, images)
    rows = pd.DataFrame(
        [row for name, step in finished.items() for row in step_rows(steps[name], step, splits, measures)]
    )
    reference = measures.row(splits.held_out.pixels, splits.held_out.conditions)
    kept = {name: reference[name] for name in reference if name.startswith(("coverage", "frechet_distance"))}
    write_config(base, computation)
    report = TutorialReport(
        name=base.name,
        training=f"{any_step.checkpoint.step:,} optimizer steps of {tutorial.batch_size} images",
        table=rows,
        reference=pd.DataFrame([{"step": "real held-out images"} | kept]),
        grids=grids(finished, splits),
        sheets=sheets(finished),
        losses={label: losses(finished[name]) for name, label in CORRUPTION.items()},
        printed=printed_losses() if base.data.dataset in ("mnist", "mnist5k") else {},
        warnings=({"measures of quality": "; ".join(too_few)} if too_few else {})
        | {
            step.description: warning
            for step in steps.values()
            if (warning := noise_schedule(step.experiment.schedule).warning()) is not None
        },
    )
    write_tutorial(base.reports, report)
    results = {name: results_of(step.evidence) for name, step in finished.items()}
    write_comparison(base.reports, base.name, results, "step", introduction(steps))
    print(rows.filter(regex="^(?!.*_(low|high)$)").to_string(index=False))
    print(f"tutorial: {base.reports / 'tutorial.md'}")


def introduction(steps: Mapping[str, TutorialStep]) -> Sequence[str]:
    """Return the paragraphs at the head of the tutorial's page."""
    unconditional = [
        name
        for name, step in steps.items()
        if not step.experiment.denoiser.conditional or max(step.experiment.sweep.guidance_weights) == -1
    ]
    return (
        "The tutorials' systems step by step, under one evaluator and on one split of the images.",
        f"These are given no label, so their accuracy is that of chance: {', '.join(unconditional)}.",
    )


def step_rows(
    step: TutorialStep, finished: Finished, splits: Splits, measures: QualityMeasures
) -> Iterator[dict[str, Any]]:
    """Yield a row for each guidance weight of a step."""
    from evaluator.judging.intervals import interval_columns
    from evaluator.judging.scoring import score

    vocabulary = splits.held_out.vocabulary
    seconds = sum(
        len(finished.evidence.splits.generator) / row["images_per_second"] for row in finished.evidence.training_log
    )
    takes_labels = step.experiment.denoiser.conditional
    for result in finished.evidence.cells:
        conditions = vocabulary.conditions(result.cell.asked)
        weight = result.cell.guidance_weight
        row: dict[str, Any] = {
            "step": step.description + (f", w = {weight:g}" if weight > 0 else ""),
            "parameters": finished.checkpoint.parameters,
            "training_seconds": round(seconds, 1),
            "network_evaluations": result.network_evaluations,
        }
        if takes_labels and weight > -1:
            row |= interval_columns("accuracy", score(result.logits, conditions).accuracy())
        quality = measures.row(result.pixels, conditions)
        yield row | {name: quality[name] for name in quality if name.startswith(("coverage", "frechet_distance"))}


def printed_losses() -> Mapping[str, PrintedLosses]:
    """Return what the sources print, by network."""
    from evaluator.reporting.tutorial import PrintedLosses

    return {name: PrintedLosses(steps, means) for name, (steps, means) in PRINTED.items()}


def losses(finished: Finished) -> list[float]:
    """Return the loss of every step for pixels from 0 to 1, a quarter of that for pixels from -1 to 1."""
    return [loss / 4 for loss in finished.evidence.losses]


def sheets(finished: dict[str, Finished]) -> dict[str, np.ndarray]:
    """Return the images of the figures without names."""
    from lab.tutorial import mixed_images

    basic, unet2d = (finished[name] for name in CORRUPTION)
    device = basic.evidence.computation.device
    return {
        "basic_40_steps.png": mixed_images(basic.checkpoint, 64, 40, device).numpy(),
        "unet2d_50_steps.png": mixed_images(unet2d.checkpoint, 32, 50, device, extra_amount=True).numpy(),
    }


def grids(finished: dict[str, Finished], splits: Splits) -> dict[str, Grid]:
    """Return the images of the figures with named rows and columns."""
    import numpy as np

    from evaluator.reporting.tutorial import Grid
    from lab.data.labelled_images import spread_evenly
    from lab.sweep.run import denoising_strip
    from lab.tutorial import corruption_rows, mixing_rows, noising_rows

    first = [step.evidence.cells[-1] for step in finished.values()]
    shown = {name: step.evidence.cells[-1].cell.guidance_weight for name, step in finished.items()}
    columns = [", ".join(label_set) for label_set in first[0].cell.asked[:10]]
    by_hand = finished["ddpm-by-hand"]
    device = by_hand.evidence.computation.device
    folder = by_hand.evidence.experiment.swept_checkpoints
    strip = denoising_strip(by_hand.checkpoint, by_hand.evidence.cells[-1].cell, 4, device, folder)
    moments = spread_evenly(STRIP, len(strip)).tolist()

    images = splits.held_out.pixels[spread_evenly(SHOWN, len(splits.held_out))]
    of_corruption = [finished[name].checkpoint for name in CORRUPTION]
    corruption = corruption_rows(images, of_corruption, device)
    mixing = mixing_rows(of_corruption[0], SHOWN, 5, device)
    width = of_corruption[1].denoiser.width
    untrained = UNet2DConfig(conditional=False, n_feat=width, widths=(1, 2, 2), attended_levels=2)
    noising, timesteps = noising_rows(images, LinearScheduleConfig(timesteps=1000), untrained)
    return {
        "corruption.png": Grid(
            np.stack([row.numpy() for row in corruption]),
            ["image", "corrupted", *CORRUPTION.values()],
            [f"{place / (len(images) - 1):.2f}" for place in range(len(images))],
        ),
        "five_steps.png": Grid(
            np.stack([row.numpy() for row in mixing]),
            [name for number in range(1, 6) for name in (f"step {number}", "predicted")],
            [""] * SHOWN,
        ),
        "noising.png": Grid(
            np.stack([row.numpy() for row in noising.values()]), list(noising), [f"t = {t}" for t in timesteps]
        ),
        "denoising_strip.png": Grid(
            np.stack([strip[moment].numpy() for moment in moments], axis=1),
            columns[:4],
            [f"step {moment}" for moment in moments],
        ),
        "samples.png": Grid(
            np.stack([cell.pixels[:10].numpy() for cell in first]),
            [f"{name.replace('-', chr(10), 1)}, w = {weight:g}" for name, weight in shown.items()],
            columns,
        ),
    }
