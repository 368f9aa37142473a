"""Previews: images from the same noise at intervals of training, as pictures in `reports/NAME/previews/`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.configuration import Experiment
from lab.configuration.networks import student_weights

if TYPE_CHECKING:
    from lab.data.labels import LabelSet
    from lab.machine.computation import Computation
    from lab.training.checkpoints import Checkpoint
    from lab.types import ImageClassifier

COLUMNS = 10
FOLDER = "previews"


def remove_previews(experiment: Experiment) -> None:
    """Remove the previews of an earlier training when a new training begins."""
    from lab.machine.files import remove_all

    remove_all((experiment.reports / FOLDER).glob("step*.png"))


def write_preview(
    experiment: Experiment,
    checkpoint: Checkpoint,
    weak: Path | None,
    label_sets: tuple[LabelSet, ...],
    computation: Computation,
    classifiers: Mapping[str, ImageClassifier] | None = None,
) -> Path | None:
    """Write `step000100.png`, images of ten label sets with a row for each method and weight, and return its path.

    Without a row, as of autoguidance alone that has no weak checkpoint yet, nothing is written and None returned.
    All rows of all previews of a run start from the same noise.

    Args:
        experiment: the experiment, whose guidance methods, weights and sampler are used.
        checkpoint: the denoiser at its current step.
        weak: the weak checkpoint of autoguidance. Until it exists, it is None and autoguidance has no rows.
        label_sets: the label sets.
        computation: the device and the precision.
        classifiers: those that may guide, by name; none if no method needs one.
    """
    import numpy as np

    from evaluator.reporting.figures import image_grid, weight_name
    from lab.data.labelled_images import to_pixels
    from lab.diffusion.denoising import timestep_grid
    from lab.diffusion.noise_source import NoiseSource, StepRandomness
    from lab.diffusion.samplers import sample
    from lab.diffusion.schedules import noise_schedule
    from lab.guidance.method import Unguided
    from lab.guidance.methods import named_methods
    from lab.training.checkpoints import load_checkpoint

    label_sets = label_sets[:COLUMNS]
    schedule, vocabulary = noise_schedule(checkpoint.schedule), checkpoint.vocabulary
    conditions = vocabulary.conditions(label_sets).to(computation.device)
    predictor = checkpoint.noise_predictor(computation)
    methods = named_methods(experiment.guidance.method)
    methods = [named for named in methods if not named.method.facts.needs_weaker or weak is not None]
    is_student = student_weights(checkpoint.denoiser) is not None
    methods = [named for named in methods if named.method.facts.for_students == is_student]
    if not methods:
        return None
    weaker = predictor
    if weak is not None and any(named.method.facts.needs_weaker for named in methods):
        weaker = load_checkpoint(weak, vocabulary).noise_predictor(computation)
    grid = timestep_grid(schedule.timesteps, experiment.sampler.sampling_steps)
    seeds = [(0, place) for place in range(len(label_sets))]
    unguided = Unguided(
        predictor,
        weaker,
        schedule,
        grid,
        vocabulary,
        StepRandomness(seeds),
        checkpoint.denoiser.prediction,
        classifiers or {},
    )
    rows, names = [], []
    for named in methods:
        for weight in experiment.sweep.guidance_weights:
            noise = NoiseSource(seeds, checkpoint.image_shape, schedule.noise)
            guided = named.method.guide(unguided, weight)
            rows.append(to_pixels(sample(guided, schedule, experiment.sampler, conditions, noise)).cpu().numpy())
            names.append(weight_name(weight) if len(methods) == 1 else f"{named.label}\nw = {weight:g}")
    picture = experiment.reports / FOLDER / f"step{checkpoint.step:06d}.png"
    image_grid(
        picture,
        np.stack(rows),
        names,
        [", ".join(label_set) for label_set in label_sets],
        f"{experiment.name} after step {checkpoint.step}",
    )
    return picture
