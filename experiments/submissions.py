"""The command that scores folders of pictures from any program. Importing this module does not import torch."""

import sys
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError, nearest
from lab.text import printable


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

    def __post_init__(self) -> None:
        if not self.images:
            raise LabError("--images is empty; give at least one folder of pictures")


def score_submissions(scoring: Scoring) -> None:
    """Score every folder, write both tables, and print the table of folders.

    Raises:
        LabError: before scoring, if the label sets, the vocabulary or the evaluator are wrong or a table cannot be
            written; after both tables are written, if some folders could not be scored.
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
        counted = f"{len(scored.problems)} of {count} folders could not be scored; {scoring.out} has the reasons"
        raise LabError(f"{counted}; first problem: {first}")
