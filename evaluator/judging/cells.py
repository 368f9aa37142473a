"""Judged cells: a sweep cell's images and the evaluator's logits, the input of every table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lab.data.labels import LabelSet
from lab.types import ClassLogits, PixelImages

CELL = ["checkpoint", "epoch", "label_set", "guidance_method", "guidance_weight"]
"""The columns that identify a cell of an experiment."""
NOT_TO_BE_BELIEVED = "its guide is its judge: not to be believed"
"""The warning of a row whose images were guided by the evaluator that judges them."""


@dataclass(frozen=True)
class JudgedCell:
    """A cell's images and the evaluator's logits of them.

    Args:
        settings: the cell's settings, the first columns of `sweep.csv`; they include the columns in `CELL`.
        cost: the cell's run time and other costs, the last columns of `sweep.csv`.
        label_sets: the label set of each image.
        pixels: returns the images, (N, C, H, W). They may be read from a file each time, so that no report holds those
            of all cells at once.
        logits: the evaluator's logits, (N, K).
        unconditional: whether the guidance method at this weight ignores the label sets.
        guided_by_classifier: whether a classifier guided the images.
    """

    settings: dict[str, Any]
    cost: dict[str, Any]
    label_sets: Sequence[LabelSet]
    pixels: Callable[[], PixelImages]
    logits: ClassLogits
    unconditional: bool = False
    guided_by_classifier: bool = False
