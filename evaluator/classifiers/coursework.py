"""The i-CLEVR coursework's `checkpoint.pth`: torchvision's ResNet-18 with 24 classes, for 64x64 images in [-1, 1].

The original is a dictionary whose key `model` holds the weights, the last layer being Sequential(Linear(512, 24),
Sigmoid). Training scripts write variants of it, which are read too: the weights under another of `WEIGHT_KEYS` or with
no key around them, a last layer without the sigmoid, and a prefix before every name (`module.` of DataParallel,
`model.` of Lightning, `_orig_mod.` of torch.compile). Here the last layer is the linear one alone: the sigmoid is
monotonic, so the k highest classes are the same.
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
"""Pixels of the images that the coursework's evaluator was trained on."""
WEIGHT_KEYS = ("model", "state_dict", "model_state_dict")
"""The keys of a file that may hold the weights, in the order in which they are tried."""

State = dict[str, Tensor]


def coursework_classifier(path: Path, content: dict[str, Any], classes: int) -> nn.Module:
    """Return the classifier of a file's content.

    Args:
        path: the file, for messages.
        content: of the file.
        classes: how many the vocabulary names.

    Raises:
        LabError: the content has no weights, or weights of another network or number of classes.
    """
    weights = weights_in(path, content)
    named = _linear_alone(_without_prefix(weights))
    classifier = build_classifier(EvaluatorConfig(kind="resnet18"), 3, classes, seed=0)
    wrong = _difference(named, classifier.state_dict())
    if wrong is not None:
        raise LabError(
            f"{path}: this evaluator is incomplete or of another network: {wrong};\nits weights are {listed(weights)}"
        )
    classifier.load_state_dict(named)
    return classifier


def weights_in(path: Path, content: dict[str, Any]) -> State:
    """Return the weights in a file's content: under one of `WEIGHT_KEYS`, or the content itself."""
    for found in (*(content.get(key) for key in WEIGHT_KEYS), content):
        if _is_state(found):
            return found
    there = [key for key in WEIGHT_KEYS if key in content]
    wrong = f"no weights under {listed(there)}" if there else f"none of the keys {listed(WEIGHT_KEYS)}"
    raise LabError(
        f"{path}: this evaluator is incomplete: it has {wrong}, and is no bare state_dict;\n"
        f"its keys are {listed(content)}"
    )


def _is_state(found: Any) -> TypeGuard[State]:
    return (
        isinstance(found, dict)
        and bool(found)
        and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in found.items())
    )


def _without_prefix(weights: State) -> State:
    """Drop the parts before a dot with which all names begin; ResNet-18's own names have none in common."""
    while len({name.partition(".")[0] for name in weights}) == 1 and all("." in name for name in weights):
        weights = {name.partition(".")[2]: tensor for name, tensor in weights.items()}
    return weights


def _linear_alone(weights: State) -> State:
    """Rename the one layer with weights of a last layer that is a Sequential, as `fc.0`, to `fc`."""
    inside = {name: match[1] for name in weights if (match := re.fullmatch(r"fc\.(\d+)\.\w+", name))}
    if len(set(inside.values())) != 1:
        return weights
    return {name.replace(f"fc.{inside[name]}.", "fc.") if name in inside else name: weights[name] for name in weights}


def _difference(found: State, needed: State) -> str | None:
    """Return in words what keeps these weights from fitting a ResNet-18, or None."""
    for name, tensor in needed.items():
        # Files of torch before 0.4.1 do not have this count, and nothing here uses it.
        if name not in found and not name.endswith("num_batches_tracked"):
            return f"ResNet-18 needs {name!r}"
        own, other = (tuple(weight.shape) for weight in (found.get(name, tensor), tensor))
        if own != other and name.startswith("fc.") and own[1:] == other[1:]:
            return f"its last layer has {own[0]} classes, and objects.json names {other[0]}"
        if own != other:
            return f"{name!r} has the shape {own}, and ResNet-18's is {other}"
        if name in found and not bool(torch.isfinite(found[name]).all()):
            return f"{name!r} holds values that are not finite"
    beyond = [name for name in found if name not in needed]
    return f"ResNet-18 has no {beyond[0]!r:.60}" if beyond else None
