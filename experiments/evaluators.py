"""Evaluators of an experiment: the one that ranks and an optional second one, trained if they do not exist yet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.configuration import Experiment
from lab.configuration.checks import as_primitives, require_same_settings

if TYPE_CHECKING:
    import torch

    from evaluator.classifiers.weights import Evaluator
    from evaluator.configuration import EvaluatorConfig
    from lab.data.labelled_images import LabelledImages


@dataclass(frozen=True)
class Evaluators:
    """The evaluators of an experiment.

    Args:
        first: the evaluator that ranks.
        images: number of images in its training split; an evaluator from a file was not trained on them.
        second: the evaluator that measures quality, or None.
    """

    first: Evaluator
    images: int
    second: Evaluator | None


def trained_evaluators(experiment: Experiment, images: LabelledImages, device: torch.device) -> Evaluators:
    """Return the evaluators. Missing ones are trained, on disjoint parts of the evaluator's split."""
    from lab.data.datasets import stratified_parts

    share = experiment.second_evaluator.share
    if not share:
        return Evaluators(first_evaluator(experiment, images, device), len(images), None)
    parts = {"evaluator": 1 - share, "second evaluator": share}
    own, others = stratified_parts(images, parts, experiment.data.seed)
    first = first_evaluator(experiment, own, device)
    return Evaluators(first, len(own), second_evaluator(experiment, others, device))


def first_evaluator(experiment: Experiment, images: LabelledImages, device: torch.device) -> Evaluator:
    """Return the first evaluator: from the file in the settings, or this experiment's own, trained if missing."""
    from evaluator.classifiers.weights import load_evaluator

    if experiment.evaluator.weights is None:
        path, settings = experiment.evaluator_file, experiment.evaluator_settings()
        return trained_once(path, experiment.evaluator, images, experiment.seed, settings, device)
    evaluator = load_evaluator(experiment.evaluator_file, images.vocabulary, device)
    evaluator.require_image_shape(images.image_shape, experiment.evaluator_file)
    return evaluator


def second_evaluator(experiment: Experiment, images: LabelledImages, device: torch.device) -> Evaluator:
    """Return the second evaluator: trained like the first one, with another architecture and seed."""
    config = replace(experiment.evaluator, kind=experiment.second_evaluator.kind, weights=None)
    path, settings = experiment.second_evaluator_file, experiment.evaluator_settings()
    return trained_once(path, config, images, experiment.seed + 1, settings, device)


def trained_once(
    path: Path,
    config: EvaluatorConfig,
    images: LabelledImages,
    seed: int,
    settings: dict[str, Any],
    device: torch.device,
) -> Evaluator:
    """Return the evaluator in a file; if the file does not exist, train an evaluator on these images and save it.

    Raises:
        LabError: the file's evaluator has other settings, classes or images.
    """
    from tqdm import tqdm

    from evaluator.classifiers.networks import build_classifier
    from evaluator.classifiers.training import train_classifier
    from evaluator.classifiers.weights import Evaluator, load_evaluator, save_evaluator

    vocabulary, image_shape = images.vocabulary, images.image_shape
    settings = settings | {"images": images.digest}
    if not path.exists():
        classifier = build_classifier(config, image_shape[0], len(vocabulary), seed).to(device)
        epochs = train_classifier(classifier, images, config, seed)
        for _ in tqdm(epochs, desc=path.stem.replace("_", " "), total=config.epochs, unit="epoch"):
            pass
        save_evaluator(path, Evaluator(config, image_shape, vocabulary, classifier, as_primitives(settings)))
    evaluator = load_evaluator(path, vocabulary, device)
    require_same_settings(path, evaluator.settings, settings)
    evaluator.require_image_shape(image_shape, path)
    return evaluator
