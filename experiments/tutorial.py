"""The tutorials' systems, step by step, on one set of images and under one evaluator: the command `tutorial`.

Each step is an ordinary experiment; its own report is in `reports/NAME-STEP/`.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from experiments.configuration import Experiment
from experiments.reporting import refuse_other_report, rehearse, too_few_images, write_config
from experiments.stages import (
    Finished,
    class_vocabulary,
    computation_of,
    load_splits,
    require_quality,
    run,
    sharing_evaluator,
    whole_comparison,
)
from lab.configuration.diffusion import (
    CorruptionScheduleConfig,
    CosineScheduleConfig,
    DDIMConfig,
    DiffusersDDIMConfig,
    DiffusersDDPMConfig,
    LinearScheduleConfig,
)
from lab.configuration.networks import BasicUNetConfig, ContextUnetConfig, ImportedUNet2DConfig, UNet2DConfig
from lab.configuration.training import TrainingConfig
from lab.errors import LabError

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from evaluator.quality.measures import QualityMeasures
    from evaluator.reporting.tutorial import Grid
    from lab.data.datasets import Splits

SHOWN = 8
"""Images in a row of a figure of the corruption baseline."""
STRIP = 10
"""Moments of the denoising strip."""
CORRUPTION = {"corruption-basic-5": "BasicUNet", "corruption-unet2d-5": "UNet2DModel"}
"""The trainings of the corruption baseline, and their networks."""
MNIST_LOSSES = {"BasicUNet": {1: 0.0286, 2: 0.0217, 3: 0.0197}, "UNet2DModel": {1: 0.0126, 5: 0.0100}}
"""Mean loss of an epoch over MNIST's 60,000 images, as the tutorials print it (UNet2DModel's first and last).

They follow Hugging Face's diffusion course, unit 1, copies of which print figures a tenth lower or higher."""
PREVIEW_EVERY = 100
"""Default number of training steps between the previews of a step that uses diffusers."""


@dataclass(frozen=True)
class TutorialStep:
    """One step.

    Args:
        description: its name in the table.
        experiment: its settings.
    """

    description: str
    experiment: Experiment


def tutorial_steps(base: Experiment) -> dict[str, TutorialStep]:
    """Return the steps in order; the sampler is all that two of one training differ in.

    Args:
        base: its data, evaluator, seeds and own recipe, which is the last step.
    """
    # Nothing is selected here, so one label-set file tells all.
    base = replace(base, data=replace(base.data, label_sets=base.data.label_sets[:1]))
    assert not isinstance(base.denoiser, ImportedUNet2DConfig)  # the command line has no such kind
    n_feat = base.denoiser.n_feat
    once = replace(base.sweep, guidance_weights=(0.0,), newest=1)
    constant = TrainingConfig(
        epochs=base.training.epochs, learning_rate=1e-3, weight_decay=0, warmup_steps=0, decay="none", checkpoints=1
    )
    basic = BasicUNetConfig(n_feat=32, widths=(1, 2, 2), prediction="x_0")
    unet2d = UNet2DConfig(
        conditional=False, timed=False, n_feat=32, widths=(1, 2, 2), attended_levels=2, prediction="x_0"
    )
    large = UNet2DConfig(conditional=False, n_feat=64, widths=(1, 1, 2), attended_levels=1)
    squared_cosine = CosineScheduleConfig(timesteps=1000)

    def step(description: str, **changes: Any) -> TutorialStep:
        return TutorialStep(description, replace(base, **({"sweep": once} | changes)))

    def mixing(steps: int) -> DDIMConfig:
        return DDIMConfig(sampling_steps=steps, clamp=False)

    corruption = {"schedule": CorruptionScheduleConfig(timesteps=1000), "training": constant}
    # diffusers' network is an order of magnitude slower than the others: fewer passes, of smaller batches.
    of_unet2d = corruption | {"training": replace(constant, epochs=max(1, base.training.epochs // 5), batch_size=64)}
    adamw = replace(
        constant,
        epochs=max(1, base.training.epochs // 4),
        batch_size=max(1, base.training.batch_size // 2),
        learning_rate=4e-4,
        weight_decay=0.01,
    )
    diffusers = {"schedule": squared_cosine, "training": adamw, "preview_every": base.preview_every or PREVIEW_EVERY}
    return {
        "corruption-basic-5": step("corruption, BasicUNet, 5 steps", denoiser=basic, sampler=mixing(5), **corruption),
        "corruption-basic-40": step(
            "the same, 40 steps",
            denoiser=basic,
            sampler=mixing(40),
            checkpoints_of=f"{base.name}-corruption-basic-5",
            **corruption,
        ),
        "corruption-unet2d-5": step(
            "corruption, UNet2DModel, 5 steps", denoiser=unet2d, sampler=mixing(5), **of_unet2d
        ),
        "corruption-unet2d-40": step(
            "the same, 40 steps",
            denoiser=unet2d,
            sampler=mixing(40),
            checkpoints_of=f"{base.name}-corruption-unet2d-5",
            **of_unet2d,
        ),
        "ddpm-by-hand": step(
            "DDPM by hand, T = 300",
            denoiser=ContextUnetConfig(n_feat=n_feat),
            schedule=LinearScheduleConfig(timesteps=300),
            # As many steps as this lab's own recipe takes, so that the two differ in nothing but the recipe.
            training=replace(constant, batch_size=base.training.batch_size, context_dropout=0.0),
            sampler=DDIMConfig(sampling_steps=300, eta=1.0, clamp=False),
        ),
        "diffusers-ddpm": step(
            "DDPM with diffusers",
            denoiser=large,
            sampler=DiffusersDDPMConfig(sampling_steps=50),
            **diffusers,
        ),
        "diffusers-ddim": step(
            "DDIM with diffusers, told the label",
            denoiser=replace(large, conditional=True),
            sampler=DiffusersDDIMConfig(sampling_steps=50),
            sweep=replace(once, guidance_weights=(0.0, 2.0)),
            **diffusers,
        ),
        "this-lab": step("this lab", sweep=replace(once, guidance_weights=(0.0, 2.0))),
    }


def run_tutorial(base: Experiment) -> None:
    """Run every step that is not finished, then write `tutorial.csv`, its figures and its page."""
    with whole_comparison(base):
        _run_tutorial(base)


def _run_tutorial(base: Experiment) -> None:
    import pandas as pd

    from evaluator.quality.measures import QualityMeasures, sample_size
    from evaluator.reporting.tutorial import write_tutorial
    from lab.data.labels import load_label_sets
    from lab.diffusion.schedules import noise_schedule

    computation = computation_of(base)
    refuse_other_report(base)
    vocabulary = class_vocabulary(base)
    splits = load_splits(base, vocabulary)
    rehearse(base, vocabulary)
    if not len(splits.held_out):
        raise LabError("--data.held-out-share is 0, and the tutorial compares with held-out images; raise it")
    require_quality(splits, "add images, or raise --data.held-out-share")
    label_sets = {base.data.label_set_names[0]: load_label_sets(base.root / base.data.label_sets[0], vocabulary)}
    too_few = too_few_images(base.sweep.seeds, label_sets, "tutorial.csv")
    for line in too_few:
        print(f"warning: {line}", file=sys.stderr)
    finished: dict[str, Finished] = {}
    # Built twice: here only to refuse settings that do not fit together, before minutes go into the evaluator.
    tutorial_steps(base)
    steps = tutorial_steps(sharing_evaluator(base, splits, computation.device))
    for name, step in steps.items():
        print(f"{name}: {step.description}", file=sys.stderr)
        finished[name] = run(replace(step.experiment, name=f"{base.name}-{name}"))

    any_step = next(iter(finished.values()))
    classifier = any_step.evidence.evaluators.first.classifier
    sizes = [len(cell.pixels) for step in finished.values() for cell in step.evidence.cells]
    images = sample_size(sizes, len(splits.held_out))
    measures = QualityMeasures(classifier, splits.generator, splits.held_out, images)
    rows = [row for name, step in finished.items() for row in step_rows(steps[name], step, splits, measures)]
    reference = measures.row(splits.held_out.pixels, splits.held_out.conditions)
    kept = {name: reference[name] for name in reference if name.startswith(("coverage", "frechet_distance"))}
    write_config(base, computation)
    write_tutorial(
        base.reports,
        base.name,
        pd.DataFrame(rows),
        pd.DataFrame([{"step": "real held-out images"} | kept]),
        grids(finished, splits),
        {label: losses(finished[name]) for name, label in CORRUPTION.items()},
        MNIST_LOSSES if base.data.dataset in ("mnist", "mnist5k") else {},
        ({"measures of quality": "; ".join(too_few)} if too_few else {})
        | {
            step.description: warning
            for step in steps.values()
            if (warning := noise_schedule(step.experiment.schedule).warning()) is not None
        },
    )
    print(pd.DataFrame(rows).filter(regex="^(?!.*_(low|high)$)").to_string(index=False))
    print(f"tutorial: {base.reports / 'tutorial.md'}")


def step_rows(
    step: TutorialStep, finished: Finished, splits: "Splits", measures: "QualityMeasures"
) -> Iterator[dict[str, Any]]:
    """Yield a row for each guidance weight of a step."""
    from evaluator.judging.intervals import interval_columns
    from evaluator.judging.scoring import score

    vocabulary = splits.held_out.vocabulary
    seconds = sum(
        len(finished.evidence.splits.generator) / row["images_per_second"] for row in finished.evidence.training_log
    )
    takes_labels = step.experiment.denoiser.conditional
    parameters = sum(tensor.numel() for tensor in finished.checkpoint.weights.values())
    for result in finished.evidence.cells:
        conditions = vocabulary.conditions(result.cell.asked)
        weight = result.cell.guidance_weight
        row: dict[str, Any] = {
            "step": step.description + (f", w = {weight:g}" if weight else ""),
            "parameters": parameters,
            "training_seconds": round(seconds, 1),
            "network_evaluations": result.network_evaluations,
        }
        if takes_labels:
            row |= interval_columns("accuracy", score(result.logits, conditions).accuracy())
        quality = measures.row(result.pixels, conditions)
        yield row | {name: quality[name] for name in quality if name.startswith(("coverage", "frechet_distance"))}


def losses(finished: Finished) -> "pd.DataFrame":
    """Return the loss of pixels from 0 to 1, a quarter of that of pixels from -1 to 1, by images seen so far.

    "loss" is the mean over an epoch, "mean_loss" that over all images so far: after 60,000 images it is what the
    tutorials print of their first epoch.
    """
    import pandas as pd

    log, images = pd.DataFrame(finished.evidence.training_log), len(finished.evidence.splits.generator)
    loss = log["loss"] / 4
    return pd.DataFrame({"images": log["epoch"] * images, "loss": loss, "mean_loss": loss.expanding().mean()})


def grids(finished: dict[str, Finished], splits: "Splits") -> dict[str, "Grid"]:
    """Return the images of every figure."""
    import numpy as np

    from evaluator.reporting.tutorial import Grid
    from lab.data.labelled_images import spread_evenly
    from lab.sweep.run import denoising_strip

    first = [step.evidence.cells[-1] for step in finished.values()]
    shown = {name: step.evidence.cells[-1].cell.guidance_weight for name, step in finished.items()}
    columns = [", ".join(label_set) for label_set in first[0].cell.asked[:10]]
    by_hand = finished["ddpm-by-hand"]
    folder = by_hand.evidence.experiment.swept_checkpoints
    strip = denoising_strip(
        by_hand.checkpoint, by_hand.evidence.cells[-1].cell, 4, by_hand.evidence.computation.device, folder
    )
    moments = spread_evenly(STRIP, len(strip)).tolist()
    return {
        "corruption.png": corruption_grid(finished, splits),
        "five_steps.png": five_steps_grid(finished["corruption-basic-5"]),
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


def corruption_grid(finished: dict[str, Finished], splits: "Splits") -> "Grid":
    """Return images corrupted by growing amounts, and what the two networks take for the clean ones."""
    import numpy as np
    import torch

    from evaluator.reporting.tutorial import Grid
    from lab.data.labelled_images import spread_evenly, to_float, to_pixels
    from lab.diffusion.schedules import noise_schedule

    images = to_float(splits.held_out.pixels[spread_evenly(SHOWN, len(splits.held_out))])
    schedule = noise_schedule(finished["corruption-basic-5"].evidence.experiment.schedule)
    timesteps = torch.linspace(0, schedule.timesteps - 1, len(images)).round().long()
    noise = schedule.noise(tuple(images.shape), torch.Generator().manual_seed(0))
    x_t = schedule.noised(images, timesteps, noise)
    rows = {"image": images, "corrupted": x_t}
    for name, label in CORRUPTION.items():
        rows[label] = clean(finished[name], x_t, timesteps)
    amounts = (timesteps + 1) / (schedule.timesteps + 1)
    return Grid(
        np.stack([to_pixels(row).numpy() for row in rows.values()]), list(rows), [f"{amount:.2f}" for amount in amounts]
    )


def five_steps_grid(finished: Finished) -> "Grid":
    """Return what the network is given and what it predicts at each of the five steps."""
    import numpy as np
    import torch

    from evaluator.reporting.tutorial import Grid
    from lab.data.labelled_images import to_pixels
    from lab.diffusion.denoising import Denoising, timestep_grid
    from lab.diffusion.noise_source import NoiseSource
    from lab.diffusion.samplers import moments
    from lab.diffusion.schedules import noise_schedule
    from lab.machine.computation import Computation

    checkpoint, evidence = finished.checkpoint, finished.evidence
    config, computation = evidence.experiment, evidence.computation
    schedule = noise_schedule(config.schedule)
    noise = NoiseSource([(0, image) for image in range(SHOWN)], checkpoint.image_shape, schedule.noise)
    conditions = torch.zeros(SHOWN, len(checkpoint.vocabulary), device=computation.device)
    rows = []
    with torch.inference_mode():
        denoising = Denoising(checkpoint.noise_predictor(Computation(computation.device)), schedule, conditions, noise)
        found = list(moments(config.sampler, denoising))
        for t, x_t in zip(timestep_grid(schedule.timesteps, config.sampler.sampling_steps), found, strict=False):
            timesteps = torch.full((SHOWN,), t)
            rows += [x_t, clean(finished, x_t, timesteps)]
    names = [name for number in range(1, len(rows) // 2 + 1) for name in (f"step {number}", "predicted")]
    return Grid(np.stack([to_pixels(row.cpu()).numpy() for row in rows]), names, [""] * SHOWN)


def clean(finished: Finished, x_t: "torch.Tensor", timesteps: "torch.Tensor") -> "torch.Tensor":
    """Return the clean images that a step's checkpoint predicts in x_t, on the CPU."""
    import torch

    from lab.diffusion.schedules import noise_schedule
    from lab.machine.computation import Computation

    checkpoint, device = finished.checkpoint, finished.evidence.computation.device
    x_t, conditions = x_t.to(device), torch.zeros(len(x_t), len(checkpoint.vocabulary), device=device)
    with torch.inference_mode():
        noise = checkpoint.noise_predictor(Computation(device))(x_t, timesteps.to(device), conditions)
    return noise_schedule(checkpoint.schedule).denoised(x_t, timesteps, noise).cpu()
