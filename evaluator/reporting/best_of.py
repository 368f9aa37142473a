"""The best of n: the section of a report's page."""

from typing import Any

import pandas as pd

from evaluator.tables import markdown, with_intervals

SHOWN = ["guidance_weight", "n", "images", "network_evaluations", "accuracy", "gain"]


def best_of_section(table: pd.DataFrame, best: "pd.Series[Any]", label_set: str) -> list[str]:
    """Return the section: the table of the best row's method on one label-set file, and how to read it.

    Args:
        table: the rows of `best_of_n.csv`.
        best: the best row of the ranking.
        label_set: the file that ranks.
    """
    rows = table[(table["label_set"] == label_set) & (table["guidance_method"] == best["guidance_method"])]
    if rows["n"].max() == 1:
        return []
    return [
        "## The best of n images",
        "Of n images of a label set, from n seeds, the one is kept that the second evaluator finds likeliest to show "
        "it. The evaluator that ranks has no part in the choice. A kept image costs the network evaluations of all n. "
        "The gain is the accuracy above that of all images of the same groups.",
        markdown(with_intervals(rows)[SHOWN]),
    ]
