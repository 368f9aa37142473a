"""The report of a study: one recipe, trained with several seeds."""

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from evaluator.judging.trainings import ROW
from evaluator.reporting.canvas import saved_figure
from evaluator.reporting.figures import COLOURS, MARKERS
from evaluator.tables import escape_markdown, markdown, with_intervals, write_csv, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def write_study(folder: Path, name: str, table: pd.DataFrame) -> str:
    """Write `study.csv`, `study.md` and `accuracy_vs_weight.png`.

    Args:
        folder: the report's folder.
        name: the experiment's name.
        table: the result of `accuracy_over_trainings`.

    Returns:
        The best row's accuracies for a terminal.
    """
    write_csv(folder / "study.csv", table)
    best = table.iloc[0]
    settings = [column for column in ROW if column != "label_set"]
    of_best = table[(table[settings] == best[settings]).all(axis=1)]
    shown = table[table["checkpoint"].eq(best["checkpoint"]) & table["guidance_method"].eq(best["guidance_method"])]
    accuracy_figure(folder / "accuracy_vs_weight.png", shown, f"{name}, {best['checkpoint']}")
    readable = with_intervals(of_best)
    page = [
        f"# {escape_markdown(name)}",
        f"One recipe, trained {best['trainings']} times with different seeds, under one evaluator and on one split of "
        f"the images. The trainings share the noise of their images. Intervals are 95 % and cover both: another "
        f"training, and other noise.",
        f"The best row is {escape_markdown(best['guidance_method'])} guidance at w = {best['guidance_weight']:g}, "
        f"picked by the mean accuracy on {escape_markdown(best['label_set'])}.json.",
        markdown(readable),
        "![Accuracy against guidance weight](accuracy_vs_weight.png)",
        "*Accuracy against guidance weight: the mean over trainings with its 95 % interval; a thin line is one "
        "training.*",
        "## All rows",
        markdown(with_intervals(table)),
        "`study.csv` has these numbers. Each training has a report of its own.",
    ]
    write_text(folder / "study.md", "\n\n".join(page) + "\n")
    return readable.to_string(index=False, na_rep="")


def accuracy_figure(path: Path, rows: pd.DataFrame, title: str) -> None:
    """Save accuracy against guidance weight, a panel for each label-set file.

    Args:
        path: of the PNG file.
        rows: rows of `accuracy_over_trainings`, of one checkpoint and method.
        title: above the axes.
    """
    files = rows["label_set"].drop_duplicates().tolist()
    with saved_figure(path, height=3.4) as figure:
        figure.suptitle(title, fontsize=10)
        axes = figure.subplots(1, len(files), sharey=True, squeeze=False)[0]
        for place, (axis, file) in enumerate(zip(axes, files, strict=True)):
            _accuracies(axis, rows[rows["label_set"] == file].sort_values("guidance_weight"), place)
            axis.set_title(f"{file}.json", fontsize=9)
            axis.set_xlabel("guidance weight w")
        axes[0].set_ylabel("accuracy (95 % interval)")
        axes[0].set_ylim(0, 1.03)


def _accuracies(axis: "Axes", rows: pd.DataFrame, place: int) -> None:
    colour, weights = COLOURS[place % len(COLOURS)], rows["guidance_weight"]
    axis.fill_between(weights, rows["accuracy_low"], rows["accuracy_high"], color=colour, alpha=0.15, linewidth=0)
    for column in rows.columns[rows.columns.str.startswith("seed_")]:
        axis.plot(weights, rows[column], color="0.5", linewidth=0.7)
    marker = MARKERS[place % len(MARKERS)]
    axis.plot(weights, rows["accuracy"], color=colour, marker=marker, markersize=4, linewidth=1.3)
    axis.set_xticks(weights, [f"{weight:g}" for weight in weights])
    axis.grid(alpha=0.25)
