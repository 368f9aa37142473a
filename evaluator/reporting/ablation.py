"""Ablation: the same experiment with one choice changed, over several seeds.

Every variant is trained from the same seeds and sampled from the same noise, so it is compared with the unchanged
experiment seed by seed:

    difference = mean_i (variant_i - unchanged_i) +- t(0.975, n - 1) s / sqrt(n)

with s the standard deviation of the n differences (Student 1908). With few seeds the intervals are wide, and rightly.
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
    """Return the mean of at least two values and the ends of Student's 95 % interval for it."""
    mean, deviation, count = np.mean(values), np.std(values, ddof=1), len(values)
    half = t.ppf(0.975, count - 1) * deviation / np.sqrt(count)
    return float(mean), float(mean - half), float(mean + half)


def ablation_table(rankings: Mapping[str, Sequence[pd.DataFrame]], label_sets: Sequence[str]) -> pd.DataFrame:
    """Return a row for each variant and label-set file, the variants from best to worst on the first file.

    Args:
        rankings: the ranking of each seed, for every variant; `UNCHANGED` is among them, and the seeds are in the same
            order everywhere. The accuracy of a seed is that of its first row, whose checkpoint and guidance weight
            were chosen by the first file.
        label_sets: the names of the label-set files, the one that ranks first.
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
    """Save the accuracy of every variant with its interval, and that of each seed as a small mark.

    Args:
        path: of the PNG file.
        table: as `ablation_table` returns it.
        title: above the axes.
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
        axis.set_xlabel("accuracy of each seed's best row (mean and 95 % interval; strokes are the seeds)")
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
        f"Each variant is the experiment with one choice changed, trained with {table['seeds'].iloc[0]} seeds. "
        f"Accuracy is that of a seed's best row, chosen on {escape_markdown(label_sets[0])}.json; the difference is to "
        f"the unchanged experiment, seed by seed. Intervals are Student's 95 % over seeds.",
        markdown(readable),
        "![accuracy of every variant](ablation.png)",
    ]
    write_text(folder / "ablation.md", "\n\n".join(page) + "\n")
    return table
