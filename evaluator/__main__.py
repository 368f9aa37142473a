"""Score anyone's pictures: `python -m evaluator --images DIR --labels test.json --weights FILE --out scores.csv`.

A folder holds 0.png, 1.png, ... one for each label set of the file, made by any program. `scores.csv` gets a row a
folder, and `scores_images.csv` beside it a row an image.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import LabError


@dataclass(frozen=True)
class Scoring:
    """What to score, against what, by whom."""

    images: tuple[Path, ...]
    """Folders of PNG files 0.png, 1.png, ...: image i answers label set i of the file."""
    labels: Path
    """The label-set file, like test.json."""
    weights: Path
    """The evaluator: the coursework's checkpoint.pth, or an evaluator.pt of this lab."""
    out: Path
    """The CSV file to write, a row a folder; the rows of the single images go beside it, into OUT_images.csv."""
    objects: Path | None = None
    """The class vocabulary; without it, objects.json beside the label-set file."""


def score_folders(scoring: Scoring) -> str:
    """Score every folder, write both tables, and return the first one as text for a terminal."""
    import pandas as pd
    import torch

    from evaluator.classifiers.networks import logits_in_batches
    from evaluator.classifiers.pictures import numbered_pictures
    from evaluator.classifiers.weights import load_evaluator
    from evaluator.judging.scoring import score
    from evaluator.tables import with_intervals, write_csv
    from lab.data.labels import load_label_sets, load_vocabulary

    vocabulary = load_vocabulary(scoring.objects or scoring.labels.parent / "objects.json")
    label_sets = load_label_sets(scoring.labels, vocabulary)
    evaluator = load_evaluator(scoring.weights, vocabulary, torch.device("cpu"))
    conditions = vocabulary.conditions(label_sets)
    folders: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    for folder in scoring.images:
        pixels = numbered_pictures(folder, len(label_sets), evaluator.image_shape)
        scored = score(logits_in_batches(evaluator.classifier, pixels), conditions)
        folders.append({"folder": folder, "label_set": scoring.labels.stem, "images": len(pixels), **scored.columns()})
        seen = vocabulary.label_sets(torch.from_numpy(scored.seen).float())
        for number, label_set in enumerate(label_sets):
            images.append(
                {
                    "folder": folder,
                    "image": f"{number}.png",
                    "asked": "; ".join(label_set),
                    "seen": "; ".join(seen[number]),
                    "labels": int(scored.labels[number]),
                    "correct_labels": int(scored.correct_labels[number]),
                    "unasked": bool(scored.has_unasked[number]),
                }
            )
    table = pd.DataFrame(folders)
    write_csv(scoring.out, table)
    write_csv(scoring.out.with_name(f"{scoring.out.stem}_images.csv"), pd.DataFrame(images))
    return with_intervals(table).drop(columns=["label_set", "labels", "correct_labels"]).to_string(index=False)


def main(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status: 0 done, 2 a user's mistake."""
    import tyro

    try:
        print(score_folders(tyro.cli(Scoring, args=list(arguments), prog="python -m evaluator", description=__doc__)))
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
