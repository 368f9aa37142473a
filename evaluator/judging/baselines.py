"""Baselines: the ceiling and the floors for the accuracies of the sweep.

Real held-out images are the ceiling. The floors are unconditional images, and guided images scored against the label
sets of other images. A floor is at chance if all classes are requested equally often. It is above chance if some
classes are requested more often, because an image of a frequent class is often correct by accident.
"""

from typing import Any

import numpy as np
import torch

from evaluator.judging.intervals import interval_columns, shuffled_interval
from evaluator.judging.scoring import chance, score
from lab.types import ClassLogits, Conditions


def baseline_row(name: str, label_set: str, logits: ClassLogits, conditions: Conditions) -> dict[str, Any]:
    """Return a row of `baselines.csv`; of no images, one without numbers.

    Args:
        name: name of the baseline.
        label_set: name of the label-set file or of the split.
        logits: the evaluator's logits of the images, (N, K).
        conditions: the label sets that the images are scored against, (N, K).
    """
    row = {"baseline": name, "label_set": label_set, "images": len(logits)}
    if not len(logits):
        return row
    columns = score(logits, conditions).columns()
    del columns["labels"], columns["correct_labels"]
    return row | {"chance": round(chance(conditions), 6), **columns}


def shuffled_row(label_set: str, logits: ClassLogits, conditions: Conditions) -> dict[str, Any]:
    """Return the row of `baselines.csv` for images scored against the label sets of other images.

    The value is the mean over all shuffles of the label sets, so it does not depend on one random shuffle. The interval
    is the interval of one shuffle: N images, each scored against one label set drawn at random.

    Args:
        label_set: name of the label-set file.
        logits: the evaluator's logits of the images, (N, K).
        conditions: the images' own label sets, (N, K).
    """
    sets, counts = torch.unique(conditions, dim=0, return_counts=True)
    scored = [score(logits, condition.expand(len(logits), -1)) for condition in sets]
    correct = np.stack([images.correct_labels for images in scored], axis=1)
    labels = sets.sum(dim=1).numpy()
    weights = counts.numpy()
    return {
        "baseline": "label sets shuffled",
        "label_set": label_set,
        "images": len(logits),
        "chance": round(chance(conditions), 6),
        **interval_columns("accuracy", shuffled_interval(correct, labels, weights)),
        **interval_columns("exact_match", shuffled_interval(correct == labels, np.ones_like(labels), weights)),
    }
