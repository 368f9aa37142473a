"""Ablation: an experiment and variants of it, over several seeds, compared at w = 0.

All variants use the same training seeds and the same sampling noise, so each is compared with the unchanged experiment
seed by seed:

    difference = mean_i (variant_i - unchanged_i) +- t(0.975, n - 1) s / sqrt(n)

with s the standard deviation of the n differences (Student 1908). Few seeds give wide intervals.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from evaluator.reporting.canvas import saved_figure
from evaluator.reporting.drawing import MaxNLocator
from evaluator.reporting.figures import COLOURS, MARKERS
from evaluator.reporting.printed import PRINTED, PrintedResult
from evaluator.tables import escape_markdown, markdown, with_intervals, write_csv, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LAST, BEST = "last", "best"
FEWEST_LATE = 4
"""Checkpoints in the last quarter of training; with fewer, the figure does not enlarge it."""
MOST_MARKED = 30
"""Checkpoints on an axis; of more, only the lines are drawn."""
Accuracies = Mapping[str, Sequence[pd.DataFrame]]
"""The rows of `accuracy_by_epoch.csv` of every seed, by variant; the first variant is the unchanged experiment."""


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of at least two values and the ends of its Student 95 % interval."""
    mean, deviation, count = np.mean(values), np.std(values, ddof=1), len(values)
    half = stdtrit(count - 1, 0.975) * deviation / np.sqrt(count)
    return float(mean), float(mean - half), float(mean + half)


def by_variant(accuracies: Accuracies, label_sets: Sequence[str]) -> pd.DataFrame:
    """Return a row for each variant, seed and epoch: its loss and its accuracy on every label-set file.

    Seeds are counted from 1.
    """
    tables = [
        table[["epoch", "loss", *label_sets]].assign(variant=variant, seed=seed)
        for variant, of_seeds in accuracies.items()
        for seed, table in enumerate(of_seeds, start=1)
    ]
    return pd.concat(tables, ignore_index=True)[["variant", "seed", "epoch", "loss", *label_sets]]


def ablation_table(
    rows: pd.DataFrame, label_sets: Sequence[str], printed: Sequence[PrintedResult] = ()
) -> pd.DataFrame:
    """Return two rows for each variant, at its last epoch and at its best, and one for each printed result.

    The best epoch is that of the highest mean accuracy over seeds on the first label-set file; of equal ones, the last.

    Args:
        rows: the result of `by_variant`; all variants have the same seeds.
        label_sets: the names of the label-set files.
        printed: results that the source of the comparison printed.

    Returns:
        The columns variant, at ("last", "best" or "printed by the source"), epoch, seeds and loss, and for every file
        NAME its mean accuracy over seeds NAME and the difference to the first variant NAME_difference, both with the
        ends of their intervals in columns that end in _low and _high. Accuracies do not leave 0 to 1.
    """
    variants = rows["variant"].drop_duplicates().tolist()
    unchanged: dict[str, pd.DataFrame] = {}
    found: list[dict[str, Any]] = []
    for variant in variants:
        own = rows[rows["variant"] == variant]
        means = own.groupby("epoch")[label_sets[0]].mean().round(9)
        for at, epoch in ((LAST, means.index.max()), (BEST, means[means == means.max()].index.max())):
            seeds = own[own["epoch"] == epoch].set_index("seed")
            reference = unchanged.setdefault(at, seeds)
            row = {"variant": variant, "at": at, "epoch": epoch, "seeds": len(seeds), "loss": seeds["loss"].mean()}
            for name in label_sets:
                mean, low, high = mean_interval(seeds[name].tolist())
                row |= {name: mean, f"{name}_low": max(low, 0.0), f"{name}_high": min(high, 1.0)}
                if variant != variants[0]:
                    differences = (f"{name}_difference", f"{name}_difference_low", f"{name}_difference_high")
                    row |= dict(zip(differences, mean_interval((seeds[name] - reference[name]).tolist()), strict=True))
            found.append(row)
    found += [
        {"variant": result.variant, "at": PRINTED, "epoch": result.epoch, "seeds": 1, "loss": result.loss}
        | {name: result.accuracies[name] for name in label_sets if name in result.accuracies}
        for result in printed
    ]
    ends = ("", "_low", "_high", "_difference", "_difference_low", "_difference_high")
    accuracies = [f"{name}{end}" for name in label_sets for end in ends]
    table = pd.DataFrame(found).reindex(columns=["variant", "at", "epoch", "seeds", "loss", *accuracies])
    return table.round(dict.fromkeys(accuracies, 6))


def _last_quarter(rows: pd.DataFrame) -> pd.DataFrame:
    late: pd.DataFrame = rows[rows["epoch"] > 0.75 * rows["epoch"].max()]
    return late


def above_half(rows: pd.DataFrame, label_sets: Sequence[str], printed: Sequence[PrintedResult] = ()) -> pd.DataFrame:
    """Return for each variant how many checkpoints of the last quarter of training have an accuracy above 0.5.

    The accuracy is that on the first label-set file; the checkpoints of all seeds count.
    """
    name, late = label_sets[0], _last_quarter(rows)
    counts = [(variant, int((own[name] > 0.5).sum()), len(own)) for variant, own in late.groupby("variant", sort=False)]
    counts += [(f"{each.variant}, {PRINTED}", *each.above_half) for each in printed if each.above_half]
    return pd.DataFrame(
        [
            {"variant": variant, "checkpoints": count, "above 0.5": above, "share": f"{above / count:.2f}"}
            for variant, above, count in counts
        ]
    )


def accuracy_figure(
    path: Path, rows: pd.DataFrame, label_sets: Sequence[str], printed: Sequence[PrintedResult], title: str
) -> None:
    """Save accuracy against epoch for all variants: the mean over seeds, and a band from lowest to highest seed.

    Each label-set file has a row of axes: all of the training and, if it has enough checkpoints, its last quarter.

    Args:
        path: path of the PNG file.
        rows: the result of `by_variant`.
        label_sets: the names of the label-set files.
        printed: results that the source of the comparison printed, drawn as larger marks.
        title: title above the axes.
    """
    late = _last_quarter(rows)
    panels = [("", rows)] + ([(", last quarter", late)] if late["epoch"].nunique() >= FEWEST_LATE else [])
    with saved_figure(path, height=1.4 + 2.7 * len(label_sets)) as figure:
        figure.suptitle(title, fontsize=10)
        grid = figure.subplots(len(label_sets), len(panels), sharex="col", squeeze=False)
        for axes, name in zip(grid, label_sets, strict=True):
            for axis, (part, shown) in zip(axes, panels, strict=True):
                _accuracies(axis, shown, name, printed)
                axis.set_title(f"{name}.json{part}", fontsize=9)
            axes[0].set_ylabel("accuracy at w = 0")
        for axis in grid[-1]:
            axis.set_xlabel("epoch")
        figure.legend(
            *grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8,
            title="line: mean over seeds; band: lowest to highest seed", title_fontsize=8,
        )  # fmt: skip


def _accuracies(axis: "Axes", rows: pd.DataFrame, name: str, printed: Sequence[PrintedResult]) -> None:
    """Draw the accuracy of every variant on one label-set file against epoch."""
    marked = rows["epoch"].nunique() <= MOST_MARKED
    axis.axhline(0.5, color="0.3", linewidth=0.8, linestyle=":")
    for place, variant in enumerate(rows["variant"].drop_duplicates().tolist()):
        colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
        of_epochs = rows[rows["variant"] == variant].groupby("epoch")[name]
        mean = of_epochs.mean()
        axis.fill_between(mean.index, of_epochs.min(), of_epochs.max(), color=colour, alpha=0.12, linewidth=0)
        axis.plot(
            mean.index, mean, color=colour, marker=marker if marked else "", markersize=3, linewidth=1.1, label=variant
        )
        for result in printed:
            # One of a later epoch would leave the curves no room.
            shown = rows["epoch"].min() <= result.epoch <= rows["epoch"].max()
            if shown and result.variant == variant and name in result.accuracies:
                axis.plot(
                    result.epoch, result.accuracies[name], marker, color="none", markeredgecolor=colour, markersize=8,
                    label=f"{variant}, {PRINTED}",
                )  # fmt: skip
    axis.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axis.grid(alpha=0.25)


def write_ablation(
    folder: Path,
    name: str,
    accuracies: Accuracies,
    label_sets: Sequence[str],
    printed: Sequence[PrintedResult] = (),
) -> str:
    """Write `ablation.csv`, `accuracy_by_epoch.csv`, `accuracy_vs_epoch.png` and `ablation.md`.

    Returns:
        The table of `ablation.csv` for a terminal.
    """
    rows = by_variant(accuracies, label_sets)
    table = ablation_table(rows, label_sets, printed)
    write_csv(folder / "accuracy_by_epoch.csv", rows)
    write_csv(folder / "ablation.csv", table)
    accuracy_figure(folder / "accuracy_vs_epoch.png", rows, label_sets, printed, f"{name}, w = 0")
    readable = with_intervals(table)
    first, of_source = f"{escape_markdown(label_sets[0])}.json", any(each.above_half for each in printed)
    page = [
        f"# {escape_markdown(name)}",
        f"Each variant is trained with {table['seeds'].iloc[0]} seeds and measured at w = 0. A row has the mean over "
        f"seeds of the loss of the epoch and of the accuracy on each label-set file, and the difference to "
        f"{escape_markdown(table['variant'].iloc[0])}, the unchanged experiment, seed by seed. Intervals are Student's "
        f"95 % over seeds.",
        f'"last" is the last epoch. "best" is the epoch with the highest mean accuracy on {first}, so its accuracy '
        f"there is the largest of many and too high on average.",
        markdown(readable),
        "Losses of different noise schedules do not compare: each schedule has its own share of noisy timesteps, whose "
        "noise is easy to predict.",
        "![Accuracy against epoch](accuracy_vs_epoch.png)",
        "*Accuracy against epoch at w = 0: the mean over seeds, and a band from the lowest seed to the highest. The "
        "dotted line is 0.5.*",
        f"## Checkpoints above 0.5 in the last quarter of training, on {first}",
        markdown(above_half(rows, label_sets, printed)),
        *(
            ["The source's rows count the checkpoints after epoch 300 that it lists or prints, of one seed."]
            if of_source
            else []
        ),
        "`accuracy_by_epoch.csv` has a row for each variant, seed and epoch.",
    ]
    write_text(folder / "ablation.md", "\n\n".join(page) + "\n")
    return readable.to_string(index=False, na_rep="")
