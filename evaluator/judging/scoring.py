"""Scoring: which of the classes asked for the evaluator finds in an image.

The coursework's rule: of an image asked for k labels, the k highest-scoring classes count as seen. Accuracy is the
correct labels over all labels asked; an image is an exact match where all of its labels are correct.

That rule cannot see objects nobody asked for: a picture of everything is right whatever was asked. So the unasked rate
is told beside it: the share of images in which the evaluator finds a class not asked for, at a probability above 1/2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluator.judging.intervals import Interval, interval_columns, ratio_interval
from lab.types import ClassChoices, ClassLogits, Conditions

MEASURES = ("accuracy", "exact_match", "image_accuracy", "unasked_rate")
"""Each is three columns of a table, NAME, NAME_low and NAME_high; see `ScoredImages`."""


def seen_classes(logits: ClassLogits, conditions: Conditions) -> ClassChoices:
    """Return the k highest-scoring classes of each image, where k is the number of classes it was asked for.

    Of equal logits the lower class index counts first.
    """
    order = logits.argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1)
    return rank < conditions.sum(dim=1, keepdim=True)


@dataclass(frozen=True)
class ScoredImages:
    """What was asked of each image and what was seen in it.

    Args:
        asked: (N, K) bool, numpy.
        seen: (N, K) bool, numpy, as many classes in each row as in `asked`.
        found: (N, K) bool, numpy, the classes of probability above 1/2, however many.
    """

    asked: np.ndarray
    seen: np.ndarray
    found: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """Labels asked of each image, (N,)."""
        return np.asarray(self.asked.sum(axis=1))

    @property
    def correct_labels(self) -> np.ndarray:
        """Labels asked of each image and seen in it, (N,)."""
        return np.asarray((self.asked & self.seen).sum(axis=1))

    def accuracy(self) -> Interval:
        """Return correct labels over labels asked, with its 95 % interval over images."""
        return ratio_interval(self.correct_labels, self.labels)

    def image_accuracy(self) -> Interval:
        """Return the mean over images of each image's own share of correct labels, with its 95 % interval."""
        return ratio_interval(self.correct_labels / self.labels, np.ones(len(self.asked)))

    def exact_match(self) -> Interval:
        """Return the share of images whose labels are all correct, with its 95 % interval."""
        return ratio_interval(self.correct_labels == self.labels, np.ones(len(self.asked)))

    @property
    def has_unasked(self) -> np.ndarray:
        """Whether each image shows the evaluator a class that was not asked for, (N,)."""
        return np.asarray((self.found & ~self.asked).any(axis=1))

    def unasked_rate(self) -> Interval:
        """Return the share of images with a class nobody asked for, with its 95 % interval."""
        return ratio_interval(self.has_unasked, np.ones(len(self.asked)))

    def columns(self) -> dict[str, float]:
        """Return every measure with its interval, as columns of a table."""
        return {
            "labels": int(self.labels.sum()),
            "correct_labels": int(self.correct_labels.sum()),
            **interval_columns("accuracy", self.accuracy()),
            **interval_columns("exact_match", self.exact_match()),
            **interval_columns("image_accuracy", self.image_accuracy()),
            **interval_columns("unasked_rate", self.unasked_rate()),
        }

    def per_class(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return, for every class that was asked for, how often it was asked and seen: rows of `per_class.csv`."""
        rows = []
        for k, name in enumerate(names):
            with_class = self.asked[:, k]
            if images := int(with_class.sum()):
                found = self.seen[with_class, k]
                accuracy = interval_columns("accuracy", ratio_interval(found, np.ones(images)))
                rows.append({"class": name, "images": images, "correct": int(found.sum()), **accuracy})
        return rows


def score(logits: ClassLogits, conditions: Conditions) -> ScoredImages:
    """Return what was asked of each image and what the logits say was seen."""
    return ScoredImages(
        asked=(conditions > 0).numpy(), seen=seen_classes(logits, conditions).numpy(), found=(logits > 0).numpy()
    )


def chance(conditions: Conditions) -> float:
    """Return the accuracy expected of guessing k of the K classes at random: sum k^2 / (K sum k)."""
    labels = conditions.sum(dim=1)
    return float((labels**2).sum() / (labels.sum() * conditions.shape[1]))
