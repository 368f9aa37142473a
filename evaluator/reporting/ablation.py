"""Ablation: an experiment with one setting changed at a time, over several seeds.

All variants use the same training seeds and the same sampling noise, so each is compared with the unchanged experiment
seed by seed:

    difference = mean_i (variant_i - unchanged_i) +- t(0.975, n - 1) s / sqrt(n)

with s the standard deviation of the n differences (Student 1908). Few seeds give wide intervals.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t

from evaluator.reporting import figures
from evaluator.reporting.canvas import saved_figure
from evaluator.tables import escape_markdown, markdown, with_intervals, write_csv, write_text

UNCHANGED = "unchanged"


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of at least two values and the ends of its Student 95 % interval."""
    mean, deviation, count = np.mean(values), np.std(values, ddof=1), len(values)
    half = t.ppf(0.975, count - 1) * deviation / np.sqrt(count)
    return float(mean), float(mean - half), float(mean + half)


def ablation_table(rankings: Mapping[str, Sequence[pd.DataFrame]], label_sets: Sequence[str]) -> pd.DataFrame:
    """Return a row for each variant and label-set file, with variants from best to worst on the first file.

    Args:
        rankings: the rankings of all seeds for each variant, including `UNCHANGED`, with seeds in the same order. The
            accuracy of a seed is the accuracy in the first row of its ranking, whose checkpoint and guidance weight the
            first label-set file selected.
        label_sets: the names of the label-set files; the first one ranks.
    """
    rows = []
    for variant, of_seeds in rankings.items():
        for name in label_sets:
            reached = [float(ranked.iloc[0][name]) for ranked in of_seeds]
            unchanged = [float(ranked.iloc[0][name]) for ranked in rankings[UNCHANGED]]
            accuracy, low, high = mean_interval(reached)
            row = {"variant": variant, "label_set": name, "seeds": len(reached), "accuracy": accuracy}
            row |= {"accuracy_low": max(low, 0.0), "accuracy_high": min(high, 1.0)}
            differences = [a - b for a, b in zip(reached, unchanged, strict=True)]
            columns = ("difference", "difference_low", "difference_high")
            row |= dict(zip(columns, mean_interval(differences), strict=True))
            rows.append(row | {f"accuracy_{place}": value for place, value in enumerate(reached, start=1)})
    table = pd.DataFrame(rows).round(6)
    first = table[table["label_set"] == label_sets[0]].set_index("variant")["accuracy"]
    order = first.sort_values(ascending=False, kind="stable").index.tolist()
    places = table["variant"].map(order.index) * len(label_sets) + table["label_set"].map(list(label_sets).index)
    return table.iloc[np.argsort(places.to_numpy(), kind="stable")].reset_index(drop=True)


def ablation_figure(path: Path, table: pd.DataFrame, title: str) -> None:
    """Save a figure of the accuracy of every variant with its interval, and of each seed as a small mark.

    Args:
        path: path of the PNG file.
        table: the result of `ablation_table`.
        title: title above the axes.
    """
    variants = table["variant"].drop_duplicates().tolist()
    files = table["label_set"].drop_duplicates().tolist()
    with saved_figure(path, height=1.4 + 0.45 * len(variants)) as figure:
        axis = figure.subplots()
        for place, name in enumerate(files):
            rows = table[table["label_set"] == name]
            heights = [variants.index(variant) + 0.18 * (place - (len(files) - 1) / 2) for variant in rows["variant"]]
            colour, marker = (
                figures.COLOURS[place % len(figures.COLOURS)],
                figures.MARKERS[place % len(figures.MARKERS)],
            )
            errors = [rows["accuracy"] - rows["accuracy_low"], rows["accuracy_high"] - rows["accuracy"]]
            axis.errorbar(
                rows["accuracy"], heights, xerr=errors, fmt=marker, color=colour, capsize=2, label=f"{name}.json"
            )
            for seed in rows.filter(regex=r"^accuracy_\d+$"):
                axis.plot(rows[seed], heights, "|", color=colour, alpha=0.6, markersize=9)
        axis.set_yticks(range(len(variants)), variants, fontsize=9)
        axis.invert_yaxis()
        axis.set_xlabel("accuracy of each seed's best row (mean and 95 % interval; one stroke per seed)")
        axis.grid(alpha=0.25, axis="x")
        axis.set_title(title, fontsize=10)
        axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))


def write_ablation(
    folder: Path, name: str, rankings: Mapping[str, Sequence[pd.DataFrame]], label_sets: Sequence[str]
) -> pd.DataFrame:
    """Write `ablation.csv`, `ablation.png` and `ablation.md`, and return the table."""
    table = ablation_table(rankings, label_sets)
    write_csv(folder / "ablation.csv", table)
    ablation_figure(folder / "ablation.png", table, name)
    readable = with_intervals(table.drop(columns=list(table.filter(regex=r"^accuracy_\d+$"))))
    page = [
        f"# {escape_markdown(name)}",
        f"Each variant changes one setting of the experiment and is trained with {table['seeds'].iloc[0]} seeds. "
        f"Accuracy is the mean accuracy of the seeds' best rows, selected on {escape_markdown(label_sets[0])}.json. "
        f"Differences are from the unchanged experiment, seed by seed. Intervals are Student's 95 % over seeds.",
        markdown(readable),
        "![Accuracy of every variant](ablation.png)",
    ]
    write_text(folder / "ablation.md", "\n\n".join(page) + "\n")
    return table
