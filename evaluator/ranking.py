"""Ranking: checkpoints and weights by their accuracy on the first label-set file.

The other files had no say in the ranking, so their accuracy beside it is an honest one; the accuracy that was ranked
by is, for the best row, the largest of many, and leans high.
"""

from collections.abc import Sequence

import pandas as pd

from evaluator.intervals import Interval
from lab.errors import LabError

CANDIDATE = ["checkpoint", "epoch", "step", "guidance_method", "guidance_weight", "guidance_scale"]
"""The columns that tell one candidate from another."""


def require_column_names(label_sets: Sequence[str]) -> None:
    """Raise LabError where a label-set file's name would clash with a column, since the tables have one of its name."""
    taken = [*CANDIDATE, "rank", "tied_with_best", *(f"{name}_{end}" for name in label_sets for end in ("low", "high"))]
    for name in label_sets:
        if name in taken:
            raise LabError(f"--data.label-sets: {name!r} is the name of a column of the tables; rename {name}.json")


def accuracy_by_checkpoint(sweep: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each checkpoint and guidance weight, with accuracy, low and high of every label-set file.

    Args:
        sweep: the rows of `sweep.csv`.

    Returns:
        The candidate columns, then NAME, NAME_low and NAME_high for every label-set file NAME, in sweep order.
    """
    table = sweep[CANDIDATE].drop_duplicates().reset_index(drop=True)
    for name, rows in sweep.groupby("label_set", sort=False):
        columns = {"accuracy": f"{name}", "accuracy_low": f"{name}_low", "accuracy_high": f"{name}_high"}
        table = table.merge(rows[[*CANDIDATE, *columns]].rename(columns=columns), on=CANDIDATE, how="left")
    return table


def ranking(table: pd.DataFrame, ranked_by: str) -> pd.DataFrame:
    """Return the rows of `accuracy_by_checkpoint` from best to worst, with a rank and a mark for ties with the best.

    Of equal accuracies the smaller guidance weight stands first (it distorts least), then the later checkpoint.

    Args:
        table: the rows.
        ranked_by: the label-set file whose accuracy decides.

    Returns:
        The same columns behind `rank`, counted from 1, and `tied_with_best`: the interval overlaps the best row's.
    """
    ordered = table.sort_values(
        [ranked_by, "guidance_weight", "step"], ascending=[False, True, False], kind="stable"
    ).reset_index(drop=True)
    intervals = [
        Interval(*map(float, row)) for row in ordered[[ranked_by, f"{ranked_by}_low", f"{ranked_by}_high"]].to_numpy()
    ]
    ordered.insert(0, "rank", range(1, len(ordered) + 1))
    ordered.insert(1, "tied_with_best", [interval.overlaps(intervals[0]) for interval in intervals])
    return ordered
