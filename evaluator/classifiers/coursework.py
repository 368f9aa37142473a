"""The i-CLEVR coursework's `checkpoint.pth`: torchvision's ResNet-18 with 24 classes, for 64x64 images in [-1, 1].

The original file is a dictionary with the weights under the key `model`; its last layer is Sequential(Linear(512, 24),
Sigmoid). The variants that training scripts write are also read: weights under another of `WEIGHT_KEYS`, a bare
state_dict, a last layer without the sigmoid, and a prefix on every name (`module.` from DataParallel, `model.` from
Lightning, `_orig_mod.` from torch.compile). The classifier built here drops the sigmoid: it is monotonic, so the k
highest classes stay the same.
"""

import re
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from evaluator.classifiers.networks import build_classifier
from evaluator.configuration import EvaluatorConfig
from lab.errors import LabError, listed

COURSEWORK_SIDE = 64
"""Side in pixels of the images that the coursework's evaluator was trained on."""
WEIGHT_KEYS = ("model", "state_dict", "model_state_dict")
"""Keys that may hold the weights, in the order they are tried."""

State = dict[str, Tensor]


def coursework_classifier(path: Path, content: dict[str, Any], classes: int) -> nn.Module:
    """Return the classifier stored in a file.

    Args:
        path: the file, for error messages.
        content: the file's content.
        classes: number of classes in the vocabulary.

    Raises:
        LabError: the content has no weights, or its weights do not fit a ResNet-18 with this number of classes.
    """
    weights = weights_in(path, content)
    named = _linear_alone(_without_prefix(weights))
    classifier = build_classifier(EvaluatorConfig(kind="resnet18"), 3, classes, seed=0)
    wrong = _difference(named, classifier.state_dict())
    if wrong is not None:
        raise LabError(
            f"{path}: this evaluator's weights do not fit ResNet-18: {wrong}\nweights in the file: {listed(weights)}"
        )
    classifier.load_state_dict(named)
    return classifier


def weights_in(path: Path, content: dict[str, Any]) -> State:
    """Return the weights in a file's content: the value of one of `WEIGHT_KEYS`, or the content itself."""
    for value in (*(content.get(key) for key in WEIGHT_KEYS), content):
        if _is_state(value):
            return value
    present = [key for key in WEIGHT_KEYS if key in content]
    wrong = f"no weights under {listed(present)}" if present else f"none of the keys {listed(WEIGHT_KEYS)}"
    raise LabError(
        f"{path}: this evaluator is incomplete: it has {wrong} and is not a bare state_dict\n"
        f"keys in the file: {listed(content)}"
    )


def _is_state(value: Any) -> TypeGuard[State]:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items())
    )


def _without_prefix(weights: State) -> State:
    """Drop every dotted prefix that all names share; ResNet-18's own names share none."""
    while len({name.partition(".")[0] for name in weights}) == 1 and all("." in name for name in weights):
        weights = {name.partition(".")[2]: tensor for name, tensor in weights.items()}
    return weights


def _linear_alone(weights: State) -> State:
    """Rename the layer with weights inside a Sequential last layer, for example `fc.0`, to `fc`."""
    inside = {name: match[1] for name in weights if (match := re.fullmatch(r"fc\.(\d+)\.\w+", name))}
    if len(set(inside.values())) != 1:
        return weights
    return {name.replace(f"fc.{inside[name]}.", "fc.") if name in inside else name: weights[name] for name in weights}


def _difference(stored: State, needed: State) -> str | None:
    """Describe the first difference between these weights and a ResNet-18's; return None if there is no difference."""
    for name, tensor in needed.items():
        # torch before 0.4.1 did not save this count, and nothing here uses it.
        if name not in stored and not name.endswith("num_batches_tracked"):
            return f"{name!r} is missing"
        own, other = (tuple(weight.shape) for weight in (stored.get(name, tensor), tensor))
        if own != other and name.startswith("fc.") and own[1:] == other[1:]:
            return f"its last layer has {own[0]} classes, but objects.json names {other[0]}"
        if own != other:
            return f"{name!r} has shape {own}, but ResNet-18's has shape {other}"
        if name in stored and not bool(torch.isfinite(stored[name]).all()):
            return f"{name!r} contains values that are not finite"
    extra = [name for name in stored if name not in needed]
    return f"ResNet-18 has no {extra[0]!r:.60}" if extra else None
