"""Accuracies of one recipe over several trainings, which differ in their seed alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from evaluator.judging.cells import JudgedCell
from evaluator.judging.intervals import crossed_interval, interval_columns
from evaluator.judging.scoring import score
from lab.data.labels import ClassVocabulary

ROW = ["checkpoint", "epoch", "guidance_method", "guidance_settings", "guidance_weight", "label_set"]
"""The columns that the cells of all trainings have in common."""


@dataclass(frozen=True)
class CountedCell:
    """The labels of a cell's images; what is kept of a training while the next one runs.

    Args:
        row: the values of the columns in `ROW`.
        correct: number of correct labels of each image, (N,).
        asked: number of requested labels of each image, (N,).
    """

    row: tuple[object, ...]
    correct: np.ndarray
    asked: np.ndarray


def counted(cells: Sequence[JudgedCell], vocabulary: ClassVocabulary) -> list[CountedCell]:
    """Return the labels of every cell, in order."""
    scored = [score(cell.logits, vocabulary.conditions(cell.label_sets)) for cell in cells]
    return [
        CountedCell(tuple(cell.settings[column] for column in ROW), images.correct_labels, images.labels)
        for cell, images in zip(cells, scored, strict=True)
    ]


def accuracy_over_trainings(trainings: Mapping[int, Sequence[CountedCell]]) -> pd.DataFrame:
    """Return a row for each cell that all trainings have: its accuracy over trainings and images.

    Args:
        trainings: the cells of each training, by its seed; at least two, whose images share label sets and noise.

    Returns:
        The columns of `ROW`, the number of trainings, the accuracy with the ends of its interval (`crossed_interval`),
        and the accuracy of each training in a column `seed_N`. The rows are ordered from the highest accuracy on the
        first label-set file to the lowest.
    """
    by_seed = {seed: {cell.row: cell for cell in cells} for seed, cells in trainings.items()}
    first = next(iter(by_seed.values()))
    rows = []
    for key in first:
        if all(key in cells for cells in by_seed.values()):
            cells = {seed: of_seed[key] for seed, of_seed in by_seed.items()}
            correct, asked = np.stack([cell.correct for cell in cells.values()]), first[key].asked
            rows.append(
                dict(zip(ROW, key, strict=True))
                | {"trainings": len(cells)}
                | interval_columns("accuracy", crossed_interval(correct, asked))
                | {f"seed_{seed}": round(cell.correct.sum() / asked.sum(), 6) for seed, cell in cells.items()}
            )
    table = pd.DataFrame(rows)
    files = table["label_set"].drop_duplicates().tolist()
    settings = [column for column in ROW if column != "label_set"]
    ranked = table[table["label_set"] == files[0]].set_index(settings)["accuracy"]
    table["_ranked"] = [-ranked[tuple(row)] for row in table[settings].itertuples(index=False)]
    table["_file"] = table["label_set"].map(files.index)
    table = table.sort_values(["_ranked", *settings, "_file"], kind="stable", ignore_index=True)
    return table.drop(columns=["_ranked", "_file"])
