"""The stages of an unconditional experiment: training, sampling, report.

torch, pandas and matplotlib take seconds to import, so the stages import them: wrong settings are refused first.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from experiments.reporting import refuse_other_networks, write_settings
from experiments.stages import computation_warning
from experiments.unconditional.configuration import UnconditionalExperiment

if TYPE_CHECKING:
    from evaluator.reporting.unconditional import BroughtBack
    from lab.data.labelled_images import LabelledImages
    from lab.machine.computation import Computation
    from lab.training.checkpoints import Checkpoint
    from lab.training.runs import TrainingRun
    from lab.types import PixelImage


def run_unconditional(experiment: UnconditionalExperiment) -> None:
    """Train from where an earlier run stopped, sample, and write the report."""
    from evaluator.reporting.picture_folders import require_drawable
    from evaluator.reporting.rehearsal import rehearse_report
    from lab.data.datasets import load_images
    from lab.diffusion.schedules import noise_schedule
    from lab.machine.computation import chosen_computation
    from lab.machine.files import remove_leftovers
    from lab.machine.locks import locked
    from lab.sweep.fit import require_fit

    computation = chosen_computation(
        experiment.device, experiment.precision, experiment.denoiser.width, experiment.compiled
    )
    refuse_other_networks(experiment.reports, experiment.generator_settings())
    dataset = load_images(experiment.data, experiment.images_folder, experiment.cache)
    require_drawable(dataset.image_shape[0])
    schedule = noise_schedule(experiment.schedule)
    require_fit(experiment.sampler, [], schedule, dataset.vocabulary)
    picture = picture_to_bring_back(experiment, dataset)
    if (warning := schedule.warning()) is not None:
        print(f"warning: {warning}", file=sys.stderr)
    training_run(experiment, dataset, computation)  # refuses what does not fit before anything is written
    print(f"computing on {computation.device} in {computation.precision}", file=sys.stderr)
    with locked(experiment.checkpoints):
        for folder in (experiment.checkpoints, experiment.reports):
            remove_leftovers(folder)
        rehearse_report(experiment.reports, [experiment.name], ["loss"])
        # Read again: before the lock was had, another run may have trained further.
        training = training_run(experiment, dataset, computation)
        train(experiment, training, computation)
        report(experiment, training, dataset, picture, warning, computation)


def training_run(experiment: UnconditionalExperiment, dataset: LabelledImages, computation: Computation) -> TrainingRun:
    """Return the training of an experiment, its network built and its folder checked; nothing is written yet."""
    from lab.training.recipe import Recipe
    from lab.training.runs import TrainingRun

    recipe = Recipe(experiment.denoiser, experiment.schedule, experiment.rooted_training, experiment.seed)
    return TrainingRun(experiment.checkpoints, dataset, recipe, experiment.generator_settings(), computation)


def picture_to_bring_back(experiment: UnconditionalExperiment, dataset: LabelledImages) -> PixelImage:
    """Return the image that is noised and brought back: the file that is given, or the first image of the data."""
    from lab.data.image_files import read_image

    if experiment.bring_back is None:
        return dataset.pixels[0]
    channels, side, _ = dataset.image_shape
    return read_image(experiment.root / experiment.bring_back, channels, side)


def train(experiment: UnconditionalExperiment, run: TrainingRun, computation: Computation) -> None:
    """Train to the end, from where an earlier run stopped, and print the losses of the epochs that are chosen."""
    from tqdm import tqdm

    if 0 < run.steps_so_far < run.total_steps and (warning := computation_warning(run.log.rows, computation)):
        print(f"warning: {warning}", file=sys.stderr)
    first, mean, epoch_losses = experiment.first_loss_every, experiment.mean_loss_every, run.losses_of_epoch_so_far
    with tqdm(desc="training", total=run.total_steps, initial=run.steps_so_far, unit="step") as progress:
        for step in run.steps():
            epoch_losses.append(step.loss)
            if first and len(epoch_losses) == 1 and (step.epoch - 1) % first == 0:
                progress.write(f"after {step.epoch - 1} epochs, step {step.step}: loss {step.loss:.4f}", sys.stdout)
            if step.ends_epoch:
                if mean and step.epoch % mean == 0:
                    average = sum(epoch_losses) / len(epoch_losses)
                    progress.write(f"epoch {step.epoch}: mean loss {average:.4f}", sys.stdout)
                epoch_losses.clear()
            progress.set_postfix(epoch=step.epoch, loss=f"{step.loss:.4f}", refresh=False)
            progress.update()


def report(
    experiment: UnconditionalExperiment,
    training: TrainingRun,
    dataset: LabelledImages,
    picture: PixelImage,
    warning: str | None,
    computation: Computation,
) -> None:
    """Sample, write `reports/NAME/` and print where the report is."""
    import pandas as pd

    from evaluator.reporting.unconditional import UnconditionalReport, write_unconditional
    from lab.library import sample_moments
    from lab.sweep.cells import noise_seeds_of
    from lab.training.checkpoints import load_checkpoint

    newest = training.kept[-1].path
    checkpoint = load_checkpoint(newest, dataset.vocabulary)
    last = experiment.sampler.sampling_steps
    shown = experiment.pictures.shown(last)
    kept = sorted({*shown, last})
    moments = sample_moments(
        checkpoint,
        [()] * experiment.images,
        0.0,
        sampler=experiment.sampler,
        noise_seeds=noise_seeds_of("images", 0, experiment.images),
        steps=kept,
        device=experiment.device,
        precision=experiment.precision,
    )
    # First, so that a report that is cut off in the middle is known for this experiment's and made again.
    write_settings(experiment.reports, asdict(experiment), experiment.generator_settings(), computation)
    contents = UnconditionalReport(
        name=experiment.name,
        trained_on=len(dataset),
        parameters=checkpoint.parameters,
        sampler=f"{experiment.sampler.kind}, {last} steps",
        training=pd.DataFrame(training.log.rows),
        losses=training.log.losses,
        first_loss_every=experiment.first_loss_every,
        mean_loss_every=experiment.mean_loss_every,
        samples=moments[:, -1],
        moments={step: moments[:, kept.index(step)] for step in shown},
        pictures=experiment.pictures,
        brought_back=brought_back(experiment, checkpoint, picture),
        warning=warning,
    )
    write_unconditional(experiment.reports, contents)
    print(f"checkpoint: {newest}")
    print(f"report: {experiment.reports / 'report.md'}")


def brought_back(
    experiment: UnconditionalExperiment, checkpoint: Checkpoint, picture: PixelImage
) -> BroughtBack | None:
    """Return the picture, noised and brought back, or None if no timestep is chosen."""
    from evaluator.reporting.unconditional import BroughtBack
    from lab.library import bring_back

    if not experiment.bring_back_from:
        return None
    rows = bring_back(
        checkpoint,
        picture,
        experiment.bring_back_from,
        sampler=experiment.sampler,
        device=experiment.device,
        precision=experiment.precision,
    )
    source = "the first training image" if experiment.bring_back is None else experiment.bring_back.name
    return BroughtBack(source, picture, experiment.bring_back_from, rows)
