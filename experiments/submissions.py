"""The command that scores folders of pictures from any program. Importing this module does not import torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from lab.configuration.checks import require_range
from lab.errors import LabError, nearest
from lab.text import printable

if TYPE_CHECKING:
    from evaluator.classifiers.weights import Evaluator
    from evaluator.reporting.submissions import ScoredFolder
    from lab.data.labels import ClassVocabulary, LabelSet
    from lab.machine.workers import Worker


@dataclass(frozen=True)
class Scoring:
    """Settings of the command: the folders, the label sets, the evaluator and the output."""

    images: tuple[Path, ...]
    """Folders of PNG files 0.png, 1.png, ...: image i belongs to label set i of the file. Other file names do not
    count, and no picture may be missing or extra. A folder that cannot be scored has a row with the reason in the
    column `problem`."""
    labels: Path
    """The label-set file, like test.json."""
    weights: Path
    """The evaluator: the coursework's checkpoint.pth or an evaluator.pt of this lab."""
    out: Path
    """The CSV file to write, with one row per folder. A file beside it, OUT_images.csv, has one row per image."""
    objects: Path | None = None
    """The class vocabulary; by default objects.json beside the label-set file. A checkpoint.pth needs a vocabulary. An
    evaluator.pt contains one, and a vocabulary file must agree with it."""
    workers: int = 1
    """Processes that score folders. It affects the speed, not the scores."""

    def __post_init__(self) -> None:
        if not self.images:
            raise LabError("--images is empty; give at least one folder of pictures")
        require_range("workers", self.workers, 1, 1000)


@dataclass(frozen=True)
class ScoringWork:
    """What a worker does: it scores a folder.

    Args:
        weights, vocabulary: the evaluator's file, and the classes that it must have.
        label_set_file: its name.
        label_sets: its content.
    """

    weights: Path
    vocabulary: ClassVocabulary | None
    label_set_file: str
    label_sets: tuple[LabelSet, ...]

    def files(self, folder: Path) -> Sequence[Path]:
        """Return no files: the workers are processes of this machine and have its folders."""
        return []

    def name(self, folder: Path) -> str:
        """Return the folder's name, for errors."""
        return str(folder)

    def __call__(self, folder: Path, worker: Worker) -> ScoredFolder:
        """Score a folder."""
        from evaluator.reporting.submissions import scored_folder

        return scored_folder(folder, self.label_set_file, self.label_sets, _evaluator(self.weights, self.vocabulary))


@cache
def _evaluator(weights: Path, vocabulary: ClassVocabulary | None) -> Evaluator:
    """Return the evaluator of a worker's process, which lives as long as one command."""
    import torch

    from evaluator.classifiers.weights import load_evaluator

    return load_evaluator(weights, vocabulary, torch.device("cpu"))


def score_submissions(scoring: Scoring) -> None:
    """Score every folder, write both tables, and print the table of folders.

    Raises:
        LabError: before scoring, if the label sets, the vocabulary or the evaluator are wrong or a table cannot be
            written; after both tables are written, if some folders could not be scored.
    """
    import torch
    from tqdm import tqdm

    from evaluator.classifiers.weights import load_evaluator
    from evaluator.reporting.submissions import images_file, scored_folder, submissions
    from lab.data.labels import load_label_sets, load_vocabulary
    from lab.machine.files import require_writable_file
    from lab.machine.processes import on_processes

    require_writable_file(scoring.out)
    require_writable_file(images_file(scoring.out))
    if not scoring.labels.exists():
        beside = sorted(path.name for path in scoring.labels.parent.glob("*.json"))
        raise LabError(f"{scoring.labels}: no such label-set file{nearest(scoring.labels.name, beside)}")
    objects = scoring.objects or scoring.labels.parent / "objects.json"
    vocabulary = load_vocabulary(objects) if scoring.objects or objects.exists() else None
    evaluator = load_evaluator(scoring.weights, vocabulary, torch.device("cpu"))
    label_sets, name = load_label_sets(scoring.labels, evaluator.vocabulary), printable(scoring.labels.stem)
    if scoring.workers > 1:
        work = ScoringWork(scoring.weights, vocabulary, name, label_sets)
        finished = on_processes(work, scoring.images, workers=scoring.workers)
    else:
        finished = ((folder, scored_folder(folder, name, label_sets, evaluator)) for folder in scoring.images)
    count = len(scoring.images)
    try:
        by_folder = dict(tqdm(finished, desc="scoring", total=count, unit="folder", disable=count == 1))
    except KeyboardInterrupt:
        print(f"\ninterrupted; {scoring.out} was not written", file=sys.stderr)
        raise SystemExit(130) from None
    scored = submissions(by_folder[folder] for folder in scoring.images)
    scored.write(scoring.out)
    print(scored.text())
    if scored.problems:
        first = scored.problems[0]
        if count == 1:
            raise first
        counted = f"{len(scored.problems)} of {count} folders could not be scored; {scoring.out} has the reasons"
        raise LabError(f"{counted}; first problem: {first}")
