"""Printed results: accuracies and losses that an experiment's source printed, to stand beside those measured here.

Importing this module imports no pandas, so that presets may hold printed results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

PRINTED = "printed by the source"


@dataclass(frozen=True)
class PrintedResult:
    """A checkpoint's results as the source printed them.

    Args:
        variant: which of the source's trainings.
        epoch: the checkpoint's epoch, by the source's own count.
        loss: the training loss.
        accuracies: the accuracy on every label-set file, by its name.
        above_half: of the source's checkpoints after epoch 300, how many have an accuracy above 0.5 on the first file,
            and how many it lists or prints; None if it lists none.
    """

    variant: str
    epoch: int
    loss: float
    accuracies: Mapping[str, float]
    above_half: tuple[int, int] | None = None


def with_printed(baselines: pd.DataFrame, printed: Sequence[PrintedResult], label_sets: Sequence[str]) -> pd.DataFrame:
    """Return the rows of `baselines.csv` and below them one for each printed result and label-set file that it has.

    Without printed results the table stays as it is; with some, it has the columns variant, epoch and loss too.
    """
    import pandas as pd

    rows = [
        {"baseline": PRINTED, "label_set": name, "variant": result.variant, "epoch": result.epoch, "loss": result.loss}
        | {"accuracy": result.accuracies[name]}
        for result in printed
        for name in label_sets
        if name in result.accuracies
    ]
    if not rows:
        return baselines
    table = pd.concat([baselines, pd.DataFrame(rows)], ignore_index=True)
    first = ["baseline", "label_set", "variant", "epoch", "loss"]
    table = table[[*first, *(column for column in table if column not in first)]]
    return table.astype({"epoch": "Int64", "images": "Int64"})
