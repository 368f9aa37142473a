"""Baselines: what the accuracies of the sweep stand between.

Real held-out images are the ceiling. Unconditional images, and guided images scored against what was asked of others,
are the floor: they stand at chance where every class is asked for equally often, and above it where some classes are
asked for more than others, since an image of one of those is often right by accident.
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
        name: of the baseline.
        label_set: name of the label-set file, or of the split.
        logits: what the evaluator said of the images, (N, K).
        conditions: what they are scored against, (N, K).
    """
    row = {"baseline": name, "label_set": label_set, "images": len(logits)}
    if not len(logits):
        return row
    columns = score(logits, conditions).columns()
    del columns["labels"], columns["correct_labels"]
    return row | {"chance": round(chance(conditions), 6), **columns}


def shuffled_row(label_set: str, logits: ClassLogits, conditions: Conditions) -> dict[str, Any]:
    """Return the row of `baselines.csv` of images scored against the label sets of others.

    The value is the mean over all shuffles of the label sets, so that it does not depend on the luck of one. Its
    interval is that of one shuffle: the N images, each scored against one label set drawn at random.

    Args:
        label_set: name of the label-set file.
        logits: the evaluator's logits of the images, (N, K).
        conditions: the images' own label sets, (N, K).
    """
    sets, counts = torch.unique(conditions, dim=0, return_counts=True)
    scored = [score(logits, asked.expand(len(logits), -1)) for asked in sets]
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
