"""The best of n: the section of a report's page."""

from typing import Any

import pandas as pd

from evaluator.tables import markdown, with_intervals

SHOWN = ["guidance_weight", "chosen_by", "n", "images", "network_evaluations", "accuracy", "gain"]


def best_of_section(table: pd.DataFrame, best: "pd.Series[Any]", label_set: str) -> list[str]:
    """Return the section: the table of the best row's method on one label-set file, and how to read it.

    Args:
        table: the rows of `best_of_n.csv`.
        best: the best row of the ranking.
        label_set: the file that ranks.
    """
    rows = table[(table["label_set"] == label_set) & (table["guidance_method"] == best["guidance_method"])]
    if rows["n"].fillna(2).max() == 1:
        return []
    return [
        "## The best of n images",
        "Of n images of a label set, from n seeds, the likeliest one is kept: by the second evaluator, or by the lift, "
        "which is how much better the denoiser predicts the image's noise with its label set than without. Rows "
        "without n keep every image whose lift is above 0. The evaluator that ranks has no part in the choice. A kept "
        "image costs the network evaluations of all n and of their lifts. The gain is the accuracy above that of all "
        f"images of the same groups. The table has the method of the best row, {best['guidance_method']}; "
        "`best_of_n.csv` has all methods.",
        markdown(with_intervals(rows)[SHOWN]),
    ]
