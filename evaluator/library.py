"""The judge from Python: train, load and score in one call each.

import evaluator

judge = evaluator.train(splits.evaluator)
print(evaluator.score(judge, pixels, [["7"], ["3"]]).accuracy())
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from evaluator.classifiers.networks import build_classifier, logits_in_batches
from evaluator.classifiers.pictures import numbered_pictures
from evaluator.classifiers.training import train_classifier, training_precision
from evaluator.classifiers.weights import Evaluator
from evaluator.configuration import EvaluatorConfig
from evaluator.judging.scoring import ScoredImages
from evaluator.judging.scoring import score as score_logits
from lab.data.labelled_images import LabelledImages
from lab.errors import LabError
from lab.machine.devices import chosen_device
from lab.types import PixelImages


def train(
    images: LabelledImages,
    config: EvaluatorConfig | None = None,
    *,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> Evaluator:
    """Train an evaluator, in memory; `evaluator.save_evaluator` writes it.

    Args:
        images: what to train on; keep those that a generator learns from out of it.
        config: the classifier and its training; the defaults of each if not given.
        seed: of the initial weights, the order and the jitter.
        device: "auto", "cpu", "cuda", ...
        progress: whether to show a progress bar.

    Raises:
        LabError: the device is not there, or the loss is no longer finite.
    """
    config, channels, classes = config or EvaluatorConfig(), images.image_shape[0], len(images.vocabulary)
    classifier = build_classifier(config, channels, classes, seed).to(chosen_device(device))
    precision = training_precision("auto", next(classifier.parameters()).device, images.image_shape[1])
    epochs = train_classifier(classifier, images, config, seed, precision)
    for _ in tqdm(epochs, desc="evaluator", total=config.epochs, unit="epoch", disable=not progress):
        pass
    return Evaluator(config, images.image_shape, images.vocabulary, classifier, settings={})


def score(evaluator: Evaluator, pixels: PixelImages, label_sets: Sequence[Sequence[str]]) -> ScoredImages:
    """Return the requested classes of each image and the classes that the evaluator sees.

    Args:
        evaluator: the judge.
        pixels: (N, C, H, W), 8 bits, of the size that the evaluator was trained on.
        label_sets: class names for each image.

    Raises:
        LabError: images of another size, another number of label sets than images, or an unknown class.
    """
    evaluator.require_image_shape(tuple(pixels.shape[1:]), Path("the images"))  # type: ignore[arg-type]  # three of them
    if len(label_sets) != len(pixels):
        raise LabError(f"{len(pixels)} images and {len(label_sets)} label sets; give a label set for each image")
    conditions = evaluator.vocabulary.conditions([tuple(label_set) for label_set in label_sets])
    return score_logits(logits_in_batches(evaluator.classifier, pixels), conditions)


def score_folder(evaluator: Evaluator, folder: Path, label_sets: Sequence[Sequence[str]]) -> ScoredImages:
    """Score the pictures 0.png, 1.png, ... of a folder; see `score`.

    Raises:
        LabError: as `score`; or pictures are missing, unreadable or of another size.
    """
    return score(evaluator, numbered_pictures(folder, len(label_sets), evaluator.image_shape), label_sets)


def baseline(evaluator: Evaluator, held_out: LabelledImages) -> ScoredImages:
    """Return how the evaluator scores real images that no network was trained on: the ceiling of any generator."""
    with torch.inference_mode():
        logits = logits_in_batches(evaluator.classifier, held_out.pixels)
    return score_logits(logits, held_out.conditions)
