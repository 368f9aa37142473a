"""Best of n: of n images of a label set, the one is kept that a second classifier finds likeliest to show it.

The n images are those of n seeds in a row, and no image is in two such groups. With the second classifier's logits l
and the condition c, the kept image has the largest

    log p(c | image) = sum_k c_k log sigmoid(l_k) + (1 - c_k) log sigmoid(-l_k)

A kept image costs the network evaluations of all n. The classifier that ranks has no part in the choice, so its
accuracy has no bias: the kept images are independent of each other, as any images are, and the intervals over them are
the usual ones. They are nevertheless a selection, less varied than the n are.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.nn.functional import logsigmoid

from evaluator.judging.cells import CELL, JudgedCell
from evaluator.judging.intervals import Interval, Z, interval_columns, ratio_interval
from evaluator.judging.scoring import ScoredImages
from lab.types import ClassLogits, Conditions

COUNTS = (1, 2, 5, 10, 20, 50)
"""The n that are tried, as far as a cell has seeds."""


def log_likelihood(logits: ClassLogits, conditions: Conditions) -> np.ndarray:
    """Return log p(condition | image) of each image, (N,)."""
    return np.asarray((conditions * logsigmoid(logits) + (1 - conditions) * logsigmoid(-logits)).sum(dim=1))


def groups(seeds: int, label_sets: int, n: int) -> np.ndarray:
    """Return the images of each group of n, (groups, n); seeds that fill no group are left over.

    Args:
        seeds: images of a label set; image s * label_sets + i is of seed s and label set i.
        label_sets: label sets of the cell's file.
        n: images in a group, at most `seeds`.
    """
    images = np.arange(seeds // n * n * label_sets).reshape(seeds // n, n, label_sets)
    return images.transpose(0, 2, 1).reshape(-1, n)


def best_of_rows(
    cell: JudgedCell, scored: ScoredImages, second_logits: ClassLogits, conditions: Conditions
) -> Iterator[dict[str, Any]]:
    """Yield a row for each n: accuracy of the kept images, and how far it is above that of all images of the groups.

    Args:
        cell: the cell.
        scored: its images, scored by the classifier that ranks.
        second_logits: the second classifier's, (N, K).
        conditions: (N, K).
    """
    seeds = int(cell.settings["seeds"])
    likelihood, correct, asked = log_likelihood(second_logits, conditions), scored.correct_labels, scored.labels
    for n in COUNTS:
        if n > seeds:
            break
        of_groups = groups(seeds, len(asked) // seeds, n)
        kept = of_groups[np.arange(len(of_groups)), likelihood[of_groups].argmax(axis=1)]
        gained = correct[kept] - correct[of_groups].mean(axis=1)
        yield (
            {column: cell.settings[column] for column in CELL}
            | {"n": n, "images": len(kept), "network_evaluations": n * cell.settings["network_evaluations"]}
            | interval_columns("accuracy", ratio_interval(correct[kept], asked[kept]))
            | interval_columns("gain", gain_interval(gained, asked[kept]))
        )


def gain_interval(gained: np.ndarray, asked: np.ndarray) -> Interval:
    """Return sum(gained) / sum(asked) with its 95 % interval over groups (Cochran 1977, equation 2.45)."""
    groups, value = len(asked), float(gained.sum() / asked.sum())
    residual = gained - value * asked
    deviation = float(np.sqrt(groups / max(groups - 1, 1) * (residual**2).sum()) / asked.sum())
    return Interval(value, value - Z * deviation, value + Z * deviation)
