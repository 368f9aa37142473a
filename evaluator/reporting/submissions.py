"""Submissions: folders of pictures from several makers, all scored against the same label sets.

A folder that cannot be scored has a row with the reason in the column `problem`; it does not affect other folders.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from evaluator.classifiers.networks import logits_in_batches
from evaluator.classifiers.pictures import numbered_pictures
from evaluator.classifiers.weights import Evaluator
from evaluator.judging.scoring import MEASURES, ScoredImages, score
from evaluator.tables import with_intervals, write_csv
from lab.data.labels import LabelSet
from lab.errors import LabError
from lab.text import printable

COUNTS = ("images", "labels", "correct_labels")
MEASURED = [f"{name}{end}" for name in MEASURES for end in ("", "_low", "_high")]
FOLDER_COLUMNS = ["folder", "label_set", *COUNTS, *MEASURED, "problem"]
IMAGE_COLUMNS = ["folder", "image", "asked", "seen", "labels", "correct_labels", "unasked"]


@dataclass(frozen=True)
class Submissions:
    """The scores of all folders, and the reasons for missing scores.

    Args:
        folders: one row per folder, with `FOLDER_COLUMNS`.
        images: one row per image of the scored folders, with `IMAGE_COLUMNS`.
        problems: the error of each folder that could not be scored.
    """

    folders: pd.DataFrame
    images: pd.DataFrame
    problems: list[LabError]

    def write(self, path: Path) -> None:
        """Write the table of folders to `path` and the table of images beside it, to NAME_images.csv.

        Raises:
            LabError: a file cannot be written.
        """
        write_csv(path, self.folders)
        write_csv(images_file(path), self.images)

    def text(self) -> str:
        """Return text for a terminal: a table row for each scored folder and a line for each other folder."""
        is_scored = self.folders["problem"] == ""
        readable = with_intervals(self.folders[is_scored])
        table = readable.drop(columns=["label_set", "labels", "correct_labels", "problem"]).to_string(index=False)
        others = self.folders[~is_scored]
        lines = [f"{folder}: {why}" for folder, why in zip(others["folder"], others["problem"], strict=True)]
        return "\n".join([table, *lines] if is_scored.any() else lines)


@dataclass(frozen=True)
class ScoredFolder:
    """What scoring a folder gives.

    Args:
        row: its row of the table of folders.
        images: the rows of its images; none if it could not be scored.
        problem: why it could not be scored, or None.
    """

    row: dict[str, Any]
    images: list[dict[str, Any]]
    problem: LabError | None = None


def images_file(path: Path) -> Path:
    """Return the path of the table of images that belongs to a table of folders."""
    return path.with_name(f"{path.stem}_images.csv")


def scored_folder(
    folder: Path, label_set_file: str, label_sets: Sequence[LabelSet], evaluator: Evaluator
) -> ScoredFolder:
    """Score a folder if it has all its pictures.

    Args:
        folder: the folder; its picture i.png belongs to label set i.
        label_set_file: name of the label-set file, for the tables.
        label_sets: label sets of the evaluator's classes.
        evaluator: the evaluator that scores the pictures.
    """
    name = printable(str(folder))
    row: dict[str, Any] = {"folder": name, "label_set": label_set_file, "problem": ""}
    try:
        pixels = numbered_pictures(folder, len(label_sets), evaluator.image_shape)
    except LabError as problem:
        reason = str(problem).removeprefix(f"{folder}: ").replace("\n", "; ")
        return ScoredFolder(row | {"problem": reason}, [], problem)
    scored = score(logits_in_batches(evaluator.classifier, pixels), evaluator.vocabulary.conditions(label_sets))
    return ScoredFolder(
        row | {"images": len(pixels)} | scored.columns(), _image_rows(name, label_sets, scored, evaluator)
    )


def submissions(scored: Iterable[ScoredFolder]) -> Submissions:
    """Return the tables of scored folders, in their order."""
    folders = list(scored)
    table = pd.DataFrame([each.row for each in folders], columns=FOLDER_COLUMNS)
    table = table.astype(dict.fromkeys(COUNTS, "Int64") | dict.fromkeys(MEASURED, "float64"))
    images = pd.DataFrame([row for each in folders for row in each.images], columns=IMAGE_COLUMNS)
    return Submissions(table, images, [each.problem for each in folders if each.problem is not None])


def _image_rows(
    folder: str, label_sets: Sequence[LabelSet], scored: ScoredImages, evaluator: Evaluator
) -> list[dict[str, Any]]:
    seen = evaluator.vocabulary.label_sets(torch.from_numpy(scored.seen).float())
    return [
        {
            "folder": folder,
            "image": f"{number}.png",
            "asked": "; ".join(label_set),
            "seen": "; ".join(seen[number]),
            "labels": int(scored.labels[number]),
            "correct_labels": int(scored.correct_labels[number]),
            "unasked": bool(scored.has_unasked[number]),
        }
        for number, label_set in enumerate(label_sets)
    ]
