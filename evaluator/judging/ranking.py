"""Ranking: checkpoints and guidance weights by their accuracy on the first label-set file.

The accuracy of the best row on this file is the largest of many and therefore biased upwards. The other files do not
affect the ranking, so the accuracies on them are unbiased.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from evaluator.judging.cells import NOT_TO_BE_BELIEVED
from evaluator.judging.scoring import ScoredImages
from evaluator.judging.selection import behind_best, selection
from lab.errors import LabError

CANDIDATE = ["checkpoint", "epoch", "step", "guidance_method", "guidance_weight", "guidance_scale"]
"""The columns that identify a candidate."""
OF_GUIDANCE = ["effective_guidance_scale", "guidance_warning"]
"""What else a candidate's rows say of its guidance. The effective scale is that of the first label-set file."""


def require_column_names(label_sets: Sequence[str]) -> None:
    """Raise LabError if a label-set file has the name of a column; the tables have a column for each file."""
    differences = [f"{name}_difference" for name in label_sets]
    ends = [f"{name}_{end}" for name in ("rank", "behind_best", *label_sets, *differences) for end in ("low", "high")]
    of_ablations = ["variant", "at", "seed", "seeds"]
    taken = [
        *CANDIDATE,
        *OF_GUIDANCE,
        "rank",
        "tied_with_best",
        "behind_best",
        "loss",
        *of_ablations,
        *differences,
        *ends,
    ]
    for name in label_sets:
        if name in taken:
            raise LabError(f"--data.label-sets: {name!r} is already a column name in the tables; rename {name}.json")


def accuracy_by_checkpoint(sweep: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each checkpoint and guidance weight, with the accuracy and its interval on every label-set file.

    Args:
        sweep: the rows of `sweep.csv`.

    Returns:
        The candidate columns, those of `OF_GUIDANCE`, then NAME, NAME_low and NAME_high for every label-set file NAME;
        rows in sweep order.
    """
    table = sweep.drop_duplicates(CANDIDATE)[[*CANDIDATE, *OF_GUIDANCE]].reset_index(drop=True)
    for name, rows in sweep.groupby("label_set", sort=False):
        columns = {"accuracy": f"{name}", "accuracy_low": f"{name}_low", "accuracy_high": f"{name}_high"}
        table = table.merge(rows[[*CANDIDATE, *columns]].rename(columns=columns), on=CANDIDATE, how="left")
    return table


def ranking(table: pd.DataFrame, ranked_by: str, scored: Sequence[ScoredImages]) -> tuple[pd.DataFrame, float]:
    """Return the rows of `accuracy_by_checkpoint` from best to worst, each compared with the best, and the optimism.

    Equal accuracies are ordered by effective guidance scale, smallest first because it distorts least, then by step,
    latest first. A row without an effective scale has its place by the guidance scale 1 + w. Rows that are not to be
    believed stand last, and no row is compared with them.

    Args:
        table: the rows of `accuracy_by_checkpoint`.
        ranked_by: the label-set file whose accuracy decides the order.
        scored: the scored images of this file, one for each row of the table.

    Returns:
        The table with the columns `rank` (counted from 1), its 95 % interval `rank_low` and `rank_high`, and
        `tied_with_best` in front, and `behind_best` with its interval at the end. `behind_best` is the difference over
        the same pairs of label set and seed; a row is tied with the best if the interval reaches 0. The second value is
        the optimism of the best row; see `evaluator.judging.selection`.
    """
    # Rounded, so that the rounding of float32 does not separate equal scales.
    scale = table["effective_guidance_scale"].astype(float).fillna(table["guidance_scale"]).round(3)
    doubtful = table["guidance_warning"].str.contains(NOT_TO_BE_BELIEVED, regex=False).astype(bool)
    by = pd.DataFrame({"doubtful": doubtful, "accuracy": table[ranked_by], "scale": scale, "step": table["step"]})
    by = by.sort_values([*by], ascending=[True, False, True, False], kind="stable")
    ordered = table.loc[by.index]
    correct = np.stack([scored[row].correct_labels for row in ordered.index], axis=1)
    believed, labels = int((~doubtful).sum()) or len(table), scored[0].labels
    compared = selection(correct[:, :believed], labels, best=0)
    behind = behind_best(correct, labels, best=0)
    ordered = ordered.reset_index(drop=True)
    ranks = np.arange(1, len(ordered) + 1)
    ordered.insert(0, "rank", ranks)
    for end in (0, 1):
        ordered.insert(1 + end, ("rank_low", "rank_high")[end], [*compared.rank[:, end], *ranks[believed:]])
    ordered.insert(3, "tied_with_best", [*compared.tied, *[False] * (len(ordered) - believed)])
    for place, column in enumerate(("behind_best", "behind_best_low", "behind_best_high")):
        ordered[column] = behind[:, place].round(6)
    return ordered, compared.optimism
