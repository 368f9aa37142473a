"""Classifiers of an experiment, trained if they do not exist yet: the evaluator that ranks, a second one, a guide."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.configuration import Experiment
from lab.configuration.checks import as_primitives, require_same_settings
from lab.errors import LabError

if TYPE_CHECKING:
    import torch

    from evaluator.classifiers.weights import Evaluator
    from evaluator.configuration import EvaluatorConfig
    from lab.data.labelled_images import LabelledImages
    from lab.types import ImageClassifier


@dataclass(frozen=True)
class Evaluators:
    """The evaluators of an experiment.

    Args:
        first: the evaluator that ranks.
        images: number of images that trained it, or None if it came from a file.
        second: the evaluator that measures quality, or None.
        guide: the classifier that guides and judges nothing, or None.
    """

    first: Evaluator
    images: int | None
    second: Evaluator | None
    guide: Evaluator | None = None

    @property
    def classifiers(self) -> dict[str, ImageClassifier]:
        """Those that may guide, by the name that the method of guidance has for them."""
        guide = {} if self.guide is None else {"guide": self.guide}
        return {name: each.classifier.requires_grad_(False) for name, each in ({"judge": self.first} | guide).items()}


def evaluator_parts(
    experiment: Experiment, images: LabelledImages
) -> tuple[LabelledImages | None, LabelledImages | None]:
    """Return the parts of the evaluators' split that train the first and the second; None if none is trained."""
    from lab.data.datasets import stratified_parts

    share = experiment.second_evaluator.share
    if experiment.evaluator.weights is not None:
        return None, images if share else None
    if not share:
        return images, None
    own, others = stratified_parts(images, {"evaluator": 1 - share, "second evaluator": share}, experiment.data.seed)
    return own, others


def trained_evaluators(experiment: Experiment, images: LabelledImages, device: torch.device) -> Evaluators:
    """Return the evaluators, trained on disjoint parts of the evaluators' split if they are not there yet.

    Args:
        experiment: whose evaluators.
        images: the evaluators' split; it may be empty if the evaluator is given as a file.
        device: where to put them.
    """
    own, others = evaluator_parts(experiment, images)
    first = first_evaluator(experiment, images if own is None else own, device)
    second = None if others is None else second_evaluator(experiment, others, device)
    return Evaluators(first, None if own is None else len(own), second)


def first_evaluator(experiment: Experiment, images: LabelledImages, device: torch.device) -> Evaluator:
    """Return the first evaluator: a file's, another experiment's, or this one's own, trained if it is missing."""
    from evaluator.classifiers.weights import load_evaluator

    if experiment.evaluator.weights is None and not experiment.evaluator_of:
        path, config = experiment.evaluator_file, experiment.evaluator
        return trained_once(path, experiment, config, images, experiment.seed, device, experiment.evaluator_settings())
    evaluator = load_evaluator(experiment.evaluator_file, images.vocabulary, device)
    evaluator.require_image_shape(images.image_shape, experiment.evaluator_file)
    if experiment.evaluator_of:
        require_same_images(experiment, evaluator, images)
    return evaluator


def require_same_images(experiment: Experiment, evaluator: Evaluator, images: LabelledImages) -> None:
    """Raise LabError unless another experiment's evaluator was trained on exactly these images.

    Otherwise it may have seen this experiment's held-out images, and the ceiling would be too high.
    """
    settings = evaluator.settings if isinstance(evaluator.settings, dict) else {}
    if settings.get("images") != images.digest:
        raise LabError(
            f"{experiment.evaluator_file} was trained on other images than this experiment leaves to its evaluator; "
            f"it may have seen the held-out ones\n"
            f"give {experiment.evaluator_of} and {experiment.name} the same --data settings and the same "
            f"--second-evaluator.share, or leave out --evaluator-of"
        )


def second_evaluator(experiment: Experiment, images: LabelledImages, device: torch.device) -> Evaluator:
    """Return the second evaluator: trained like the first one, with another architecture and seed."""
    config = replace(experiment.evaluator, kind=experiment.second_evaluator.kind, weights=None)
    path, settings = experiment.second_evaluator_file, experiment.evaluator_settings()
    return trained_once(path, experiment, config, images, experiment.seed + 1, device, settings)


def guiding_classifier(experiment: Experiment, images: LabelledImages, device: torch.device) -> Evaluator | None:
    """Return the classifier that guides, trained like the first evaluator on the generator's images, if one is needed.

    It shares no image with the evaluators and sees none that the generator does not see.
    """
    from lab.guidance.method import guided_by
    from lab.guidance.methods import named_methods

    if not any(guided_by(named.method) == "guide" for named in named_methods(experiment.guidance.method)):
        return None
    settings = experiment.guide_settings()
    path, seed = experiment.guide_file, experiment.seed + 2
    return trained_once(path, experiment, settings["guide"], images, seed, device, settings)


def trained_once(
    path: Path,
    experiment: Experiment,
    config: EvaluatorConfig,
    images: LabelledImages,
    seed: int,
    device: torch.device,
    settings: dict[str, Any],
) -> Evaluator:
    """Return the evaluator in a file; if the file does not exist, train an evaluator on these images and save it.

    A training that was stopped goes on from its state, which lies beside the file until it is finished.

    Args:
        path: the file.
        experiment: whose evaluator.
        config: the classifier and its training.
        images: what it is trained on.
        seed: of the initial weights, the order and the jitter.
        device: where to put it.
        settings: those that decide it, by section, which are stored in the file.

    Raises:
        LabError: the file's evaluator has other settings, classes or images.
    """
    from tqdm import tqdm

    from evaluator.classifiers.runs import ClassifierRun, state_file
    from evaluator.classifiers.training import training_precision
    from evaluator.classifiers.weights import Evaluator, load_evaluator, save_evaluator
    from lab.machine.files import remove_all

    vocabulary, image_shape = images.vocabulary, images.image_shape
    settings = settings | {"images": images.digest}
    if not path.exists():
        precision = training_precision(experiment.precision, device, image_shape[1])
        run = ClassifierRun(state_file(path), config, images, seed, precision, device, settings)
        done, name = len(run.training.losses), path.stem.replace("_", " ")
        for _ in tqdm(run.epochs(), desc=name, total=config.epochs, initial=done, unit="epoch"):
            pass
        classifier = run.training.classifier
        save_evaluator(path, Evaluator(config, image_shape, vocabulary, classifier, as_primitives(settings)))
    remove_all([state_file(path)])
    evaluator = load_evaluator(path, vocabulary, device)
    require_same_settings(path, evaluator.settings, settings)
    evaluator.require_image_shape(image_shape, path)
    return evaluator
