"""Evaluators as files: this lab's own, which names its classes, and the i-CLEVR coursework's, which does not.

Both are loaded without running any code from them.
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
"""What an evaluator's file of this lab must hold."""


@dataclass(frozen=True)
class Evaluator:
    """A trained classifier with what is needed to use it again.

    Args:
        config: how it was built and trained.
        image_shape: (channels, height, width) of the images it was trained on.
        vocabulary: the classes of its logits.
        classifier: in evaluation mode.
        settings: all that decided its training, as nested dictionaries of primitives; empty where nobody knows.
    """

    config: EvaluatorConfig
    image_shape: tuple[int, int, int]
    vocabulary: ClassVocabulary
    classifier: nn.Module
    settings: dict[str, Any]

    def require_image_shape(self, found: tuple[int, int, int], path: Path) -> None:
        """Raise LabError unless images of this (channels, height, width) are what the evaluator was trained on."""
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
    """Read an evaluator that `save_evaluator` wrote, which has a key `format`, or the coursework's.

    Args:
        path: the file.
        vocabulary: the classes it must be of, or None for the file's own. The coursework's file names none, so it
            needs a vocabulary of as many classes.
        device: where to put it.

    Raises:
        LabError: the file is missing, damaged, of another kind, format or vocabulary, or incomplete; or the file
            names no classes and there is no vocabulary.
    """
    content = load_tensors(path, "evaluator", "restore a copy, or let the lab train its own")
    try:
        evaluator = _own(path, content) if "format" in content else _coursework(path, content, vocabulary)
    except LabError:
        raise
    except Exception as error:  # whatever a hostile file's content makes of building a network
        told = lines_of(error)[-1]
        raise LabError(f"{path}: this evaluator is incomplete or of another network ({told:.120})") from None
    if vocabulary is not None:
        evaluator.vocabulary.require_same(vocabulary, path)
    evaluator.classifier.to(device).eval()
    return evaluator


def _own(path: Path, content: dict[str, Any]) -> Evaluator:
    if "denoiser" in content:
        raise LabError(
            f"{path}: this file holds a denoiser, not an evaluator; name an evaluator.pt or a checkpoint.pth"
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
            f"{path}: this evaluator does not name its classes;\n"
            f"put the coursework's objects.json beside the label-set file, or name it with --objects"
        )
    classifier = coursework_classifier(path, content, len(vocabulary))
    shape = (3, COURSEWORK_SIDE, COURSEWORK_SIDE)
    return Evaluator(EvaluatorConfig(kind="resnet18"), shape, vocabulary, classifier, settings={})
