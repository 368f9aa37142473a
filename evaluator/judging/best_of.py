"""Best of n: of n images of a label set, the one is kept that is likeliest to show it.

The n images are those of n seeds in a row, and no image is in two such groups. What is likeliest is said by a second
classifier, with its logits l and the condition c,

    log p(c | image) = sum_k c_k log sigmoid(l_k) + (1 - c_k) log sigmoid(-l_k)

or by another measure of an image, such as its lift (`lab/sweep/lift.py`). A kept image costs the network evaluations of
all n. The classifier that ranks has no part in the choice, so its accuracy has no bias: the kept images are independent
of each other, as any images are, and the intervals over them are the usual ones.
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
    cell: JudgedCell, scored: ScoredImages, chosen_by: str, likelihood: np.ndarray, evaluations: int = 0
) -> Iterator[dict[str, Any]]:
    """Yield a row for each n: accuracy of the kept images, and how far it is above that of all images of the groups.

    Args:
        cell: the cell.
        scored: its images, scored by the classifier that ranks.
        chosen_by: name of the measure that chooses.
        likelihood: the measure of each image, (N,); the larger, the likelier.
        evaluations: network evaluations that the measure of an image takes.
    """
    seeds = int(cell.settings["seeds"])
    correct, asked = scored.correct_labels, scored.labels
    for n in COUNTS:
        if n > seeds:
            break
        of_groups = groups(seeds, len(asked) // seeds, n)
        kept = of_groups[np.arange(len(of_groups)), likelihood[of_groups].argmax(axis=1)]
        gained = correct[kept] - correct[of_groups].mean(axis=1)
        cost = n * (cell.settings["network_evaluations"] + (evaluations if n > 1 else 0))
        yield _named(cell, chosen_by, n, len(kept), cost) | (
            interval_columns("accuracy", ratio_interval(correct[kept], asked[kept]))
            | interval_columns("gain", gain_interval(gained, asked[kept]))
        )


def accepted_row(
    cell: JudgedCell, scored: ScoredImages, chosen_by: str, accepted: np.ndarray, evaluations: int = 0
) -> dict[str, Any]:
    """Return the row of the images that a criterion accepts, as `best_of_rows` does; their n is missing.

    The cost is that of an accepted image. If none is accepted, the row has no accuracy.
    """
    correct, asked = scored.correct_labels, scored.labels
    count, each = int(accepted.sum()), cell.settings["network_evaluations"] + evaluations
    row = _named(cell, chosen_by, None, count, round(each * len(asked) / count, 2) if count else None)
    if not count:
        return row
    accuracy = ratio_interval(correct[accepted], asked[accepted])
    of_all = float(correct.sum() / asked.sum())
    # The linear part of the difference of two ratios over the same images, image by image (Cochran 1977, chapter 6).
    parts = accepted * (correct - accuracy.value * asked) / asked[accepted].sum()
    parts = parts - (correct - of_all * asked) / asked.sum()
    gain = accuracy.value - of_all
    deviation = float(np.sqrt(len(asked) / max(len(asked) - 1, 1) * (parts**2).sum()))
    return (
        row
        | interval_columns("accuracy", accuracy)
        | interval_columns("gain", Interval(gain, gain - Z * deviation, gain + Z * deviation))
    )


def _named(cell: JudgedCell, chosen_by: str, n: int | None, images: int, cost: float | None) -> dict[str, Any]:
    named = {column: cell.settings[column] for column in CELL}
    return named | {"chosen_by": chosen_by, "n": n, "images": images, "network_evaluations": cost}


def gain_interval(gained: np.ndarray, asked: np.ndarray) -> Interval:
    """Return sum(gained) / sum(asked) with its 95 % interval over groups (Cochran 1977, equation 2.45)."""
    groups, value = len(asked), float(gained.sum() / asked.sum())
    residual = gained - value * asked
    deviation = float(np.sqrt(groups / max(groups - 1, 1) * (residual**2).sum()) / asked.sum())
    return Interval(value, value - Z * deviation, value + Z * deviation)
