"""Previews: what a denoiser makes of the same noise while it trains, as pictures in `reports/NAME/previews/`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.configuration import Experiment

if TYPE_CHECKING:
    import torch

    from lab.checkpoints import Checkpoint
    from lab.labels import LabelSet

COLUMNS = 10
FOLDER = "previews"


def remove_previews(experiment: Experiment) -> None:
    """Remove the previews of an earlier training; a training that begins shows its own alone."""
    from lab.files import remove_all

    remove_all((experiment.reports / FOLDER).glob("step*.png"))


def write_preview(
    experiment: Experiment, checkpoint: Checkpoint, asked: tuple[LabelSet, ...], device: torch.device, precision: str
) -> None:
    """Write `step000100.png`: images of the first ten label sets, a row for each guidance weight of the sweep.

    All previews of a run, and all their rows, start from the same noise.
    """
    import numpy as np

    from evaluator.figures import image_grid, weight_name
    from lab.guidance import ClassifierFreeGuidance
    from lab.labelled_images import to_pixels
    from lab.noise_source import NoiseSource
    from lab.sampling import sample
    from lab.schedules import noise_schedule

    asked = asked[:COLUMNS]
    schedule = noise_schedule(checkpoint.schedule)
    conditions = checkpoint.vocabulary.conditions(asked).to(device)
    predictor = checkpoint.noise_predictor(device, precision)
    rows = []
    for weight in experiment.sweep.guidance_weights:
        noise = NoiseSource([(0, place) for place in range(len(asked))], checkpoint.image_shape, schedule.noise)
        images = sample(ClassifierFreeGuidance(predictor, weight), schedule, experiment.sampler, conditions, noise)
        rows.append(to_pixels(images).cpu().numpy())
    image_grid(
        experiment.reports / FOLDER / f"step{checkpoint.step:06d}.png",
        np.stack(rows),
        [weight_name(weight) for weight in experiment.sweep.guidance_weights],
        [", ".join(label_set) for label_set in asked],
        f"{experiment.name} after step {checkpoint.step}",
    )
