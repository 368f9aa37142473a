"""The command that scores folders of pictures, made by any program; importing this imports no torch."""

import sys
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError, nearest
from lab.text import printable


@dataclass(frozen=True)
class Scoring:
    """What is scored, against what, by which evaluator."""

    images: tuple[Path, ...]
    """Folders of PNG files 0.png, 1.png, ...: image i answers label set i of the file. No other names count, and no
    picture may be missing or left over; a folder that cannot be scored keeps its row, with the reason in the column
    `problem`."""
    labels: Path
    """The label-set file, like test.json."""
    weights: Path
    """The evaluator: the coursework's checkpoint.pth, or an evaluator.pt of this lab."""
    out: Path
    """The CSV file to write, a row a folder; the rows of the single images go beside it, into OUT_images.csv."""
    objects: Path | None = None
    """The class vocabulary; without it, objects.json beside the label-set file. A checkpoint.pth needs one; an
    evaluator.pt holds its own, which must be the same if there is such a file."""

    def __post_init__(self) -> None:
        if not self.images:
            raise LabError("--images names no folder; give at least one folder of pictures")


def score_submissions(scoring: Scoring) -> None:
    """Score every folder, write both tables, and print the first one.

    Raises:
        LabError: the label sets, the vocabulary or the evaluator are wrong, or a table cannot be written: before any
            folder is scored. Or folders could not be scored: after both tables are written.
    """
    import torch

    from evaluator.classifiers.weights import load_evaluator
    from evaluator.reporting.submissions import images_file, scored_submissions
    from lab.data.labels import load_label_sets, load_vocabulary
    from lab.machine.files import require_writable_file

    require_writable_file(scoring.out)
    require_writable_file(images_file(scoring.out))
    if not scoring.labels.exists():
        beside = sorted(path.name for path in scoring.labels.parent.glob("*.json"))
        raise LabError(f"{scoring.labels}: no such label-set file{nearest(scoring.labels.name, beside)}")
    objects = scoring.objects or scoring.labels.parent / "objects.json"
    vocabulary = load_vocabulary(objects) if scoring.objects or objects.exists() else None
    evaluator = load_evaluator(scoring.weights, vocabulary, torch.device("cpu"))
    label_sets = load_label_sets(scoring.labels, evaluator.vocabulary)
    try:
        scored = scored_submissions(scoring.images, printable(scoring.labels.stem), label_sets, evaluator)
    except KeyboardInterrupt:
        print(f"\ninterrupted; {scoring.out} was not written", file=sys.stderr)
        raise SystemExit(130) from None
    scored.write(scoring.out)
    print(scored.text())
    if scored.problems:
        count, first = len(scoring.images), scored.problems[0]
        if count == 1:
            raise first
        counted = f"{len(scored.problems)} of {count} folders could not be scored, and {scoring.out} says why"
        raise LabError(f"{counted}; the first: {first}")
