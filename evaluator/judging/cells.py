"""Judged cells: a sweep cell's images and the evaluator's logits, as every table takes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lab.data.labels import LabelSet
from lab.types import ClassLogits, PixelImages

CELL = ["checkpoint", "epoch", "label_set", "guidance_method", "guidance_weight"]
"""The columns that tell one cell of an experiment from another."""


@dataclass(frozen=True)
class JudgedCell:
    """A cell's images and what the evaluator said of them.

    Args:
        settings: what was run, the first columns of `sweep.csv`; those in `CELL` are among them.
        cost: what it took, the last columns of `sweep.csv`.
        label_sets: what was asked of each image.
        pixels: the images, (N, C, H, W).
        logits: the evaluator's, (N, K).
        unconditional: whether its guidance method at its weight makes images without a condition.
    """

    settings: dict[str, Any]
    cost: dict[str, Any]
    label_sets: Sequence[LabelSet]
    pixels: PixelImages
    logits: ClassLogits
    unconditional: bool = False
