"""Seconds to an accuracy of 0.95 on the digits, including the evaluator, training and sampling of the preset."""

import time

import torch

from benchmarks.side_by_side import Row
from evaluator.classifiers.networks import build_classifier, logits_in_batches
from evaluator.classifiers.training import train_classifier
from evaluator.judging.scoring import score
from experiments.presets import DIGITS
from lab.data.datasets import digits, stratified_splits
from lab.data.labelled_images import to_pixels
from lab.diffusion.noise_source import NoiseSource
from lab.diffusion.samplers import sample
from lab.diffusion.schedules import noise_schedule
from lab.guidance.classifier_free import ClassifierFreeGuidance
from lab.machine.computation import Computation
from lab.training.recipe import Recipe
from lab.training.trainer import Trainer

WANTED = 0.95
EPOCHS_BETWEEN = 3
IMAGES, WEIGHT = 500, 2.0


def seconds_to_accuracy(precision: str) -> list[Row]:
    """Return a row for the first epoch to reach the accuracy, tested every third epoch, and a row for the evaluator."""
    began = time.perf_counter()
    data = DIGITS.data
    splits = stratified_splits(digits(), data.evaluator_share, data.held_out_share, data.seed)
    classifier = build_classifier(DIGITS.evaluator, 1, 10, 0)
    for _ in train_classifier(classifier, splits.evaluator, DIGITS.evaluator, 0):
        pass
    trained_evaluator = time.perf_counter()
    schedule, computation = noise_schedule(DIGITS.schedule), Computation(precision=precision)
    trainer = Trainer(Recipe(DIGITS.denoiser, DIGITS.schedule, DIGITS.training), splits.generator, computation)
    conditions = torch.eye(10).repeat(IMAGES // 10, 1)
    for step in trainer.steps():
        if step.ends_epoch and step.epoch % EPOCHS_BETWEEN == 0:
            noise = NoiseSource([(0, image) for image in range(IMAGES)], splits.generator.image_shape)
            guidance = ClassifierFreeGuidance(trainer.checkpoint().noise_predictor(computation), WEIGHT)
            images = sample(guidance, schedule, DIGITS.sampler, conditions, noise)
            accuracy = score(logits_in_batches(classifier, to_pixels(images)), conditions).accuracy().value
            if accuracy >= WANTED:
                break
    else:
        raise SystemExit(f"the digits did not reach an accuracy of {WANTED}: {accuracy:.3f} at the end of training")
    now = time.perf_counter()
    return [
        {"benchmark": f"digits to an accuracy of {WANTED}", "of": f"{accuracy:.3f} after epoch {step.epoch}"}
        | {"seconds": now - began},
        {"benchmark": f"digits to an accuracy of {WANTED}", "of": "the evaluator's training alone"}
        | {"seconds": trained_evaluator - began},
    ]
