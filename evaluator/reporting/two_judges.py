"""Two judges: what the evaluator that ranks and the second one say of images that a classifier guided."""

import pandas as pd

from evaluator.judging.cells import CELL
from evaluator.reporting.results import Results
from evaluator.tables import escape_markdown, markdown, with_intervals


def two_judges(results: Results, quality: pd.DataFrame) -> list[str]:
    """Return the page's section on the accuracy under both evaluators; nothing if no classifier guides.

    Args:
        results: of the sweep.
        quality: the rows of `quality.csv`.
    """
    if not any(cell.guided_by_classifier for cell in results.cells_of_best_checkpoint):
        return []
    warnings = results.sweep[[*CELL, "guidance_warning"]]
    rows = results.with_accuracy(quality).merge(warnings, on=CELL, how="left")
    if results.ceiling is not None:
        rows.loc[0, ["accuracy", "accuracy_low", "accuracy_high"]] = list(vars(results.ceiling).values())
    rows.insert(0, "images of", rows["guidance_method"].fillna(str(rows["of"].iloc[0])))
    rows.insert(1, "w", rows["guidance_weight"])
    ends = ("", "_low", "_high")
    shown = rows[
        ["images of", "w", *(f"{name}{end}" for name in ("accuracy", "second_accuracy") for end in ends)]
    ].assign(warning=rows["guidance_warning"].fillna(""))
    return [
        "## Two judges",
        markdown(with_intervals(shown)),
        f"The accuracy on {escape_markdown(results.ranked_by)}.json under the evaluator that ranks, and under the "
        "second one, which has another architecture, was trained on other images, and guides nothing. A row whose "
        "guide is its judge is not to be believed: its accuracy under the second evaluator counts.",
    ]
