"""Scoring: which of the requested classes the evaluator recognises in an image.

The coursework's rule: for an image with k requested labels, the k classes with the highest logits count as seen.
Accuracy is the number of correct labels over the number of requested labels. An image is an exact match if all of its
labels are correct.

This rule ignores extra objects: a picture of every object is correct for every label set. The unasked rate measures
them: the share of images in which a class that was not requested has a probability above 1/2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluator.judging.intervals import Interval, interval_columns, ratio_interval
from lab.types import ClassChoices, ClassLogits, Conditions

MEASURES = ("accuracy", "exact_match", "image_accuracy", "unasked_rate")
"""Each measure has three table columns: NAME, NAME_low and NAME_high; see `ScoredImages`."""


def seen_classes(logits: ClassLogits, conditions: Conditions) -> ClassChoices:
    """Return the k classes with the highest logits of each image, where k is the size of its label set.

    Of equal logits, the one with the lower class index ranks first.
    """
    order = logits.argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1)
    return rank < conditions.sum(dim=1, keepdim=True)


@dataclass(frozen=True)
class ScoredImages:
    """The requested classes of each image and the classes that the evaluator recognised.

    Args:
        asked: the requested classes, (N, K), bool, numpy.
        seen: the top-k classes, (N, K), bool, numpy; each row has as many as the row of `asked`.
        found: the classes with a probability above 1/2, (N, K), bool, numpy; a row may have any number.
    """

    asked: np.ndarray
    seen: np.ndarray
    found: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """Number of requested labels of each image, (N,)."""
        return np.asarray(self.asked.sum(axis=1))

    @property
    def correct_labels(self) -> np.ndarray:
        """Number of requested labels of each image that were seen, (N,)."""
        return np.asarray((self.asked & self.seen).sum(axis=1))

    def accuracy(self) -> Interval:
        """Return the correct labels over the requested labels, with the 95 % interval over images."""
        return ratio_interval(self.correct_labels, self.labels)

    def image_accuracy(self) -> Interval:
        """Return the mean over images of each image's share of correct labels, with its 95 % interval."""
        return ratio_interval(self.correct_labels / self.labels, np.ones(len(self.asked)))

    def exact_match(self) -> Interval:
        """Return the share of images whose labels are all correct, with its 95 % interval."""
        return ratio_interval(self.correct_labels == self.labels, np.ones(len(self.asked)))

    @property
    def has_unasked(self) -> np.ndarray:
        """True for each image in which a class that was not requested has a probability above 1/2, (N,)."""
        return np.asarray((self.found & ~self.asked).any(axis=1))

    def unasked_rate(self) -> Interval:
        """Return the share of images with a class that was not requested, with its 95 % interval."""
        return ratio_interval(self.has_unasked, np.ones(len(self.asked)))

    def columns(self) -> dict[str, float]:
        """Return every measure and its interval as table columns."""
        return {
            "labels": int(self.labels.sum()),
            "correct_labels": int(self.correct_labels.sum()),
            **interval_columns("accuracy", self.accuracy()),
            **interval_columns("exact_match", self.exact_match()),
            **interval_columns("image_accuracy", self.image_accuracy()),
            **interval_columns("unasked_rate", self.unasked_rate()),
        }

    def per_class(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return a row of `per_class.csv` for every requested class: how often it was requested and how often seen."""
        rows = []
        for k, name in enumerate(names):
            with_class = self.asked[:, k]
            if images := int(with_class.sum()):
                correct = self.seen[with_class, k]
                accuracy = interval_columns("accuracy", ratio_interval(correct, np.ones(images)))
                rows.append({"class": name, "images": images, "correct": int(correct.sum()), **accuracy})
        return rows


def score(logits: ClassLogits, conditions: Conditions) -> ScoredImages:
    """Score images: compare the classes that their logits predict with their conditions."""
    return ScoredImages(
        asked=(conditions > 0).numpy(), seen=seen_classes(logits, conditions).numpy(), found=(logits > 0).numpy()
    )


def chance(conditions: Conditions) -> float:
    """Return the expected accuracy of k of the K classes chosen at random: sum k^2 / (K sum k)."""
    labels = conditions.sum(dim=1)
    return float((labels**2).sum() / (labels.sum() * conditions.shape[1]))
