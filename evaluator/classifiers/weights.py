"""Evaluator files: this lab's, which names its classes, and the i-CLEVR coursework's, which does not.

Loading either file runs no code from it.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from evaluator.classifiers.coursework import COURSEWORK_SIDE, coursework_classifier
from evaluator.classifiers.networks import build_classifier
from evaluator.configuration import EvaluatorConfig
from lab.data.labels import ClassVocabulary
from lab.errors import LabError, lines_of
from lab.machine.files import load_tensors, require_format, require_keys, save_tensors

FORMAT = 2
KEYS = ("config", "image_shape", "settings", "vocabulary", "weights")
"""Keys that an evaluator file of this lab must have."""


@dataclass(frozen=True)
class Evaluator:
    """A trained classifier and the information needed to use it again.

    Args:
        config: the settings it was built and trained with.
        image_shape: (channels, height, width) of its training images.
        vocabulary: the classes of its logits.
        classifier: the network, in evaluation mode.
        settings: every setting that decided its training, as nested dictionaries of primitives; empty if unknown.
    """

    config: EvaluatorConfig
    image_shape: tuple[int, int, int]
    vocabulary: ClassVocabulary
    classifier: nn.Module
    settings: dict[str, Any]

    def require_image_shape(self, found: tuple[int, int, int], path: Path) -> None:
        """Raise LabError unless the evaluator was trained on images of this (channels, height, width)."""
        if found != self.image_shape:
            own, other = ("x".join(map(str, shape)) for shape in (self.image_shape, found))
            raise LabError(f"{path}: this evaluator was trained on {own} images (channels, height, width), not {other}")


def save_evaluator(path: Path, evaluator: Evaluator) -> None:
    """Write an evaluator, whole or not at all.

    Raises:
        LabError: the file cannot be written.
    """
    settings = asdict(evaluator.config)
    del settings["weights"]
    save_tensors(
        path,
        {
            "format": FORMAT,
            "config": settings,
            "image_shape": evaluator.image_shape,
            "settings": evaluator.settings,
            "vocabulary": list(evaluator.vocabulary.names),
            "weights": evaluator.classifier.state_dict(),
        },
    )


def load_evaluator(path: Path, vocabulary: ClassVocabulary | None, device: torch.device) -> Evaluator:
    """Load an evaluator: this lab's, which has a key `format`, or the coursework's, which has not.

    Args:
        path: the file.
        vocabulary: the classes that the evaluator must have, or None for the classes in the file. The coursework's file
            names no classes and needs a vocabulary of the same size.
        device: the device to load it to.

    Raises:
        LabError: the file is missing, damaged or incomplete, or has another kind, format or vocabulary; or the file
            names no classes and `vocabulary` is None.
    """
    content = load_tensors(path, "evaluator", "restore a copy, or let the lab train its own")
    try:
        evaluator = _own(path, content) if "format" in content else _coursework(path, content, vocabulary)
    except LabError:
        raise
    except Exception as error:  # a hostile file can raise any exception while the network is built
        reason = lines_of(error)[-1]
        raise LabError(f"{path}: this evaluator is incomplete or has another architecture ({reason:.120})") from None
    if vocabulary is not None:
        evaluator.vocabulary.require_same(vocabulary, path)
    evaluator.classifier.to(device).eval()
    return evaluator


def _own(path: Path, content: dict[str, Any]) -> Evaluator:
    if "denoiser" in content:
        raise LabError(
            f"{path}: this file contains a denoiser, not an evaluator; give an evaluator.pt or a checkpoint.pth"
        )
    require_format(path, content.get("format"), FORMAT)
    require_keys(path, "evaluator", content, KEYS)
    config = EvaluatorConfig(**content["config"])
    vocabulary = ClassVocabulary(tuple(content["vocabulary"]))
    channels, height, width = map(int, content["image_shape"])
    classifier = build_classifier(config, channels, len(vocabulary), seed=0)
    classifier.load_state_dict(content["weights"])
    return Evaluator(config, (channels, height, width), vocabulary, classifier, content["settings"])


def _coursework(path: Path, content: dict[str, Any], vocabulary: ClassVocabulary | None) -> Evaluator:
    if vocabulary is None:
        raise LabError(
            f"{path}: this evaluator does not name its classes\n"
            f"put the coursework's objects.json beside the label-set file, or give its path with --objects"
        )
    classifier = coursework_classifier(path, content, len(vocabulary))
    shape = (3, COURSEWORK_SIDE, COURSEWORK_SIDE)
    return Evaluator(EvaluatorConfig(kind="resnet18"), shape, vocabulary, classifier, settings={})
