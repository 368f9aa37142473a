"""Evaluators as files: this lab's own, and the i-CLEVR coursework's `checkpoint.pth`.

The coursework's file is a dictionary whose key `model` holds the state of torchvision's ResNet-18 with the last layer
Sequential(Linear(512, 24), Sigmoid); it takes 64x64 images in [-1, 1]. It is loaded without running any code from it.
Here its last layer is the linear one alone: the sigmoid is monotonic, so the k highest classes are the same.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from evaluator.classifiers.networks import build_classifier
from evaluator.configuration import EvaluatorConfig
from lab.data.labels import ClassVocabulary
from lab.errors import LabError, lines_of
from lab.machine.files import load_tensors, require_format, save_tensors

FORMAT = 2
COURSEWORK_SIDE = 64
"""Pixels of the images that the coursework's evaluator was trained on."""


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


def load_evaluator(path: Path, vocabulary: ClassVocabulary, device: torch.device) -> Evaluator:
    """Read an evaluator that `save_evaluator` wrote, or the coursework's, told apart by its key `model`.

    Args:
        path: the file.
        vocabulary: the classes it must be of. The coursework's file does not name its own: their number must fit.
        device: where to put it.

    Raises:
        LabError: the file is missing, damaged, of another format or vocabulary, or incomplete.
    """
    content = load_tensors(path, "evaluator", "restore a copy, or let the lab train its own")
    try:
        evaluator = _coursework(content, vocabulary) if "model" in content else _own(path, content)
    except LabError:
        raise
    except Exception as error:  # whatever a hostile file's content makes of building a network
        told = lines_of(error)[-1]
        raise LabError(f"{path}: this evaluator is incomplete or of another network ({told:.120})") from None
    evaluator.vocabulary.require_same(vocabulary, path)
    evaluator.classifier.to(device).eval()
    return evaluator


def _own(path: Path, content: dict[str, Any]) -> Evaluator:
    require_format(path, content.get("format"), FORMAT)
    config = EvaluatorConfig(**content["config"])
    vocabulary = ClassVocabulary(tuple(content["vocabulary"]))
    channels, height, width = map(int, content["image_shape"])
    classifier = build_classifier(config, channels, len(vocabulary), seed=0)
    classifier.load_state_dict(content["weights"])
    return Evaluator(config, (channels, height, width), vocabulary, classifier, content["settings"])


def _coursework(content: dict[str, Any], vocabulary: ClassVocabulary) -> Evaluator:
    config = EvaluatorConfig(kind="resnet18")
    classifier = build_classifier(config, 3, len(vocabulary), seed=0)
    weights = {name.replace("fc.0.", "fc."): tensor for name, tensor in content["model"].items()}
    classifier.load_state_dict(weights)
    return Evaluator(config, (3, COURSEWORK_SIDE, COURSEWORK_SIDE), vocabulary, classifier, settings={})
