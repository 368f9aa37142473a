"""EMA lengths: a page's section on checkpoints that differ only in the length of their EMA.

The best length may depend on the guidance weight, so each weight has a column.
"""

import pandas as pd

from evaluator.tables import escape_markdown, markdown, with_intervals
from lab.configuration.distillation import TEACHER


def kept_rows(sweep: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `sweep.csv` of a training's own checkpoints: none that is rebuilt, and no teacher."""
    own = sweep[sweep["checkpoint"] != TEACHER]
    return own[own["ema_length"].isna()] if "ema_length" in own else own


def by_length(sweep: pd.DataFrame, label_set: str, method: str) -> pd.DataFrame:
    """Return the accuracies of the rebuilt checkpoints, a row for each EMA length and a column for each weight.

    The first row is the training's own EMA at the same step.

    Args:
        sweep: rows of `sweep.csv`.
        label_set: the label-set file.
        method: the method of guidance, one that rebuilt checkpoints have.
    """
    rows = sweep[(sweep["label_set"] == label_set) & (sweep["guidance_method"] == method)]
    rebuilt = rows[rows["ema_length"].notna()]
    own = rows[rows["ema_length"].isna() & rows["step"].isin(rebuilt["step"])]
    columns = ["ema_length", "guidance_weight", "accuracy", "accuracy_low", "accuracy_high"]
    table = with_intervals(pd.concat([own, rebuilt])[columns])
    table["EMA length"] = [f"{length:g}" if pd.notna(length) else "of the training" for length in table["ema_length"]]
    wide = table.sort_values("ema_length", na_position="first", kind="stable").pivot_table(
        index="EMA length", columns="guidance_weight", values="accuracy", aggfunc="first", sort=False
    )
    wide = wide[sorted(wide.columns)]
    return wide.rename(columns=lambda weight: f"w = {weight:g}").rename_axis(columns=None).reset_index()


def ema_length_section(sweep: pd.DataFrame, label_set: str, method: str) -> list[str]:
    """Return the page's section on EMA lengths, as of `by_length`; nothing if none was rebuilt."""
    if "ema_length" not in sweep or sweep["ema_length"].isna().all():
        return []
    rebuilt = sweep.loc[sweep["ema_length"].notna(), "guidance_method"]
    method = method if method in set(rebuilt) else str(rebuilt.iloc[0])
    return [
        "## EMA length",
        markdown(by_length(sweep, label_set, method)),
        f"Accuracy on {escape_markdown(label_set)}.json with {escape_markdown(method)} guidance. The lengths "
        "(sigma_rel) were rebuilt after the training from its power-function EMAs.",
    ]
