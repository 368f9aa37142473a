"""Figures of a report, each legible at the size it is saved: 6.5 inches wide, a page's text width."""

import textwrap
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from evaluator.judging.intervals import Interval
from evaluator.reporting.canvas import WIDTH, saved_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_TICKS = 12
"""On an axis of epochs; of more epochs only round numbers are marked."""
CHARACTERS_PER_INCH = 13
"""Of a title, narrow enough for any text."""
LARGEST_SIDE = 0.75
"""Inches; an image of a grid is not drawn larger."""
MOST_COLUMNS = 12
"""Of a grid of images, side by side."""
SHEET_COLUMNS = 8
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
"""Okabe and Ito's colours and a grey, which colour-blind readers can tell apart."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def look(place: int) -> dict[str, Any]:
    """Return a colour and a marker that together are those of no other place, up to 64."""
    turn, number = divmod(place, len(COLOURS))
    return {"color": COLOURS[number], "marker": MARKERS[(number + turn) % len(MARKERS)]}


def entitle(figure: "Figure", title: str) -> None:
    """Set the title of a figure, on as many lines as its width asks for."""
    width = figure.get_figwidth() * CHARACTERS_PER_INCH * len(title) / max(1, _columns(title))
    figure.suptitle(textwrap.fill(title, int(width)), fontsize=10)


def _columns(text: str) -> int:
    """Return the width of a text in letters; a Chinese, Japanese or Korean character is two wide."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def weight_name(weight: float) -> str:
    """Return "w = 0.5", with the words for the two weights that have some."""
    return {-1.0: "w = -1\nunconditional", 0.0: "w = 0\nconditional"}.get(weight, f"w = {weight:g}")


def image_grid(
    path: Path, images: np.ndarray, row_names: Sequence[str], column_names: Sequence[str], title: str
) -> None:
    """Save a grid of images with a name for each row and column.

    A grid of more than `MOST_COLUMNS` columns is cut into bands of equally many, one below the other.

    Args:
        path: of the PNG file.
        images: (rows, columns, C, H, W), 8 bits, C of 1 or 3.
        row_names: one a row.
        column_names: one a column; long ones are turned upright.
        title: above the grid.
    """
    rows, columns = images.shape[:2]
    bands = -(-columns // MOST_COLUMNS)
    per_band = -(-columns // bands)
    longest = max(_columns(line) for name in column_names for line in name.split("\n"))
    names_width = 1.0 if any(row_names) else 0.1
    side = min((WIDTH - names_width) / per_band, LARGEST_SIDE)
    upright = longest * 0.07 > side
    names_height = 0.0 if not longest else 0.085 * longest if upright else 0.2
    with saved_figure(
        path,
        height=0.4 + bands * (rows * side + names_height) + 0.15 * (bands - 1),
        width=max(names_width + per_band * side, WIDTH / 2),
    ) as figure:
        entitle(figure, title)
        for band, axis in enumerate(figure.subplots(bands, squeeze=False)[:, 0]):
            part = slice(band * per_band, (band + 1) * per_band)
            sheet, tops, lefts = _sheet(images[:, part], per_band)
            axis.imshow(sheet, interpolation="nearest")
            names = column_names[part]
            axis.set_xticks(lefts[: len(names)], names, fontsize=8, rotation=90 if upright else 0)
            axis.set_yticks(tops, row_names, fontsize=8)
            axis.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
            axis.spines[:].set_visible(False)


def _sheet(images: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a grid of images as one RGB picture, this many columns wide, and the middles of its rows and columns."""
    rows, _, channels, height, width = images.shape
    # One picture with a white gap of an eighth of an image: matplotlib is slow at a hundred axes.
    gap = max(1, width // 8)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, dtype=np.uint8)
    tops, lefts = np.arange(rows) * (height + gap), np.arange(columns) * (width + gap)
    for (r, c), _ in np.ndenumerate(images[:, :, 0, 0, 0]):
        sheet[tops[r] : tops[r] + height, lefts[c] : lefts[c] + width] = images[r, c].transpose(1, 2, 0)
    return np.repeat(sheet, 3 // channels, axis=2), tops + (height - 1) / 2, lefts + (width - 1) / 2


def image_sheet(path: Path, images: np.ndarray, title: str) -> None:
    """Save images without names, in rows of eight.

    Args:
        path: of the PNG file.
        images: (N, C, H, W), 8 bits, C of 1 or 3.
        title: above the images.
    """
    columns = min(SHEET_COLUMNS, len(images))
    rows = -(-len(images) // columns)
    blank = np.full((rows * columns - len(images), *images.shape[1:]), 255, dtype=np.uint8)
    grid = np.concatenate((images, blank)).reshape(rows, columns, *images.shape[1:])
    image_grid(path, grid, [""] * rows, [""] * columns, title)


def _curve(axis: "Axes", place: int, x: pd.Series, rows: pd.DataFrame, label: str) -> None:
    colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
    axis.fill_between(x, rows["accuracy_low"], rows["accuracy_high"], color=colour, alpha=0.15, linewidth=0)
    axis.plot(x, rows["accuracy"], color=colour, marker=marker, markersize=4, linewidth=1.3, label=label)


def accuracy_against_weight(
    path: Path, rows: pd.DataFrame, ceiling: Interval | None, chance: float, title: str
) -> None:
    """Save accuracy against guidance weight, a curve and 95 % band for each label-set file, between chance and ceiling.

    The left axes show all of it, the right ones the weights above 0 on a scale of their own.

    Args:
        path: of the PNG file.
        rows: the sweep rows of one checkpoint.
        ceiling: accuracy of real held-out images, or None if it was not measured.
        chance: accuracy of guessing.
        title: above the axes.
    """
    guided = rows[rows["guidance_weight"] > 0]
    with saved_figure(path, height=3.4) as figure:
        entitle(figure, title)
        panels = [("all weights", rows), ("guided, enlarged", guided)][: 2 if len(guided) else 1]
        for axis, (name, shown) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            if ceiling is not None:
                axis.axhspan(ceiling.low, ceiling.high, color="0.5", alpha=0.25, linewidth=0)
                axis.axhline(ceiling.value, color="0.3", linewidth=1, linestyle="--", label="real held-out images")
            for place, (file, group) in enumerate(shown.groupby("label_set", sort=False)):
                ordered = group.sort_values("guidance_weight")
                _curve(axis, place, ordered["guidance_weight"], ordered, f"{file}.json")
            weights = sorted(shown["guidance_weight"].unique())
            axis.set_xticks(weights, [f"{weight:g}" for weight in weights])
            axis.set_xlabel("guidance weight w")
            axis.set_title(name, fontsize=9)
            axis.grid(alpha=0.25)
        whole = figure.axes[0]
        whole.axhline(chance, color="0.3", linewidth=1, linestyle=":", label="chance")
        whole.set_ylim(0, 1.03)
        whole.set_ylabel("accuracy (95 % interval)")
        whole.legend(fontsize=8, loc="lower right")


def accuracy_against_epoch(path: Path, rows: pd.DataFrame, title: str, minutes: pd.Series) -> None:
    """Save accuracy against epoch, with the minutes of training, a curve and 95 % band for each guidance weight.

    Args:
        path: of the PNG file.
        rows: the sweep rows of one label-set file.
        title: above the axes.
        minutes: how long training took up to the end of epochs 1, 2, ...; empty if nothing was trained.
    """
    with saved_figure(path, height=3.6) as figure:
        axis = figure.subplots()
        for place, (weight, group) in enumerate(rows.groupby("guidance_weight", sort=True)):
            ordered = group.sort_values("epoch")
            _curve(axis, place, ordered["epoch"], ordered, f"w = {weight:g}")
        if (epochs := sorted(rows["epoch"].unique())) and len(epochs) <= MOST_TICKS:
            axis.set_xticks(epochs)
        axis.set_xlabel("epoch")
        if len(minutes) and len(epochs) > 1:
            # Beyond both ends, where the axis has its margins, at the mean pace.
            count, whole = len(minutes), minutes.iloc[-1]
            so_far = np.concatenate(([-whole, 0.0], minutes, [2 * whole]))
            ends = np.concatenate(([-count], np.arange(count + 1), [2 * count]))

            def minute_of(epoch: Any) -> Any:
                return np.interp(epoch, ends, so_far)

            def epoch_of(minute: Any) -> Any:
                return np.interp(minute, so_far, ends)

            clock = axis.secondary_xaxis("top", (minute_of, epoch_of))
            clock.set_xlabel("minutes of training", fontsize=8)
            clock.tick_params(labelsize=8)
        axis.set_ylabel("accuracy (95 % interval)")
        axis.set_ylim(0, 1.03)
        entitle(figure, title)
        axis.grid(alpha=0.25)
        axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))


def accuracy_of_methods(path: Path, rows: pd.DataFrame, title: str) -> None:
    """Save the accuracy of every method, with its 95 % interval, at each guidance weight, and against what it costs.

    Methods stand side by side, since bands of many of them would hide one another.

    Args:
        path: of the PNG file.
        rows: the sweep rows of one checkpoint and one label-set file.
        title: above the axes.
    """
    methods = rows["guidance_method"].drop_duplicates().tolist()
    with saved_figure(path, height=4.2) as figure:
        entitle(figure, title)
        left, right = figure.subplots(1, 2, sharey=True)
        for axis, column, named in (
            (left, "guidance_weight", "guidance weight w"),
            (right, "network_evaluations", "network evaluations an image"),
        ):
            places = sorted(rows[column].unique())
            # Of several weights at one cost, the best.
            best = rows.sort_values("accuracy").drop_duplicates(["guidance_method", column], keep="last")
            for number, method in enumerate(methods):
                shown = best[best["guidance_method"] == method]
                aside = 0.7 * ((number + 0.5) / len(methods) - 0.5)
                axis.errorbar(
                    [places.index(value) + aside for value in shown[column]],
                    shown["accuracy"],
                    yerr=[shown["accuracy"] - shown["accuracy_low"], shown["accuracy_high"] - shown["accuracy"]],
                    linestyle="none",
                    **look(number),
                    markersize=4,
                    capsize=1.5,
                    elinewidth=1,
                    label=method,
                )
            axis.set_xticks(range(len(places)), [f"{value:g}" for value in places])
            axis.set_xlabel(named)
            axis.grid(alpha=0.25, axis="y")
        left.set_ylabel("accuracy (95 % interval)")
        right.set_title("best weight at each cost", fontsize=9)
        left.set_title("each weight", fontsize=9)
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)


def accuracy_of_classes(path: Path, rows: pd.DataFrame, title: str) -> None:
    """Save the accuracy of every class at every guidance weight as a heat map with its values.

    Args:
        path: of the PNG file.
        rows: the rows of `per_class.csv` of one checkpoint, method and label-set file.
        title: above the map.
    """
    table = rows.pivot(index="class", columns="guidance_weight", values="accuracy").loc[rows["class"].unique()]
    with saved_figure(path, height=1.2 + 0.22 * len(table)) as figure:
        axis = figure.subplots()
        shown = axis.imshow(table, vmin=0, vmax=1, cmap="cividis", aspect="auto")
        for (row, column), value in np.ndenumerate(table.to_numpy()):
            axis.text(
                column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color="w" if value < 0.6 else "k"
            )
        axis.set_xticks(range(len(table.columns)), [f"{weight:g}" for weight in table.columns], fontsize=8)
        axis.set_yticks(range(len(table)), [str(name) for name in table.index], fontsize=8)
        axis.set_xlabel("guidance weight w")
        figure.colorbar(shown, label="accuracy")
        entitle(figure, title)


def accuracy_of_sizes(path: Path, rows: pd.DataFrame, title: str) -> None:
    """Save accuracy with its 95 % interval by number of labels asked, apart for each file and for unseen combinations.

    Args:
        path: of the PNG file.
        rows: the rows of `accuracy_by_size.csv` of one checkpoint, method and weight.
        title: above the axes.
    """
    sizes = sorted(rows["labels_asked"].unique())
    groups = list(rows.groupby(["label_set", "seen_together"], sort=False))
    with saved_figure(path, height=3.2) as figure:
        axis = figure.subplots()
        for number, ((file, together), group) in enumerate(groups):
            aside = 0.7 * ((number + 0.5) / len(groups) - 0.5)
            axis.errorbar(
                [sizes.index(size) + aside for size in group["labels_asked"]],
                group["accuracy"],
                yerr=[group["accuracy"] - group["accuracy_low"], group["accuracy_high"] - group["accuracy"]],
                fmt=MARKERS[number % len(MARKERS)],
                color=COLOURS[number % len(COLOURS)],
                capsize=2,
                label=f"{file}.json, {'seen' if together else 'never seen'} together",
            )
        axis.set_xticks(range(len(sizes)), [str(size) for size in sizes])
        axis.set_xlim(-0.5, len(sizes) - 0.5)
        axis.set_xlabel("labels in the label set")
        axis.set_ylabel("accuracy (95 % interval)")
        axis.set_ylim(0, 1.03)
        axis.grid(alpha=0.25, axis="y")
        entitle(figure, title)
        figure.legend(loc="outside lower center", ncols=2, fontsize=8)


def accuracy_against_coverage(path: Path, rows: pd.DataFrame, title: str) -> None:
    """Save accuracy against coverage: one curve per method, one point per guidance weight, with 95 % intervals.

    The left axes show all of it, the right ones the best corner.

    Args:
        path: of the PNG file.
        rows: the rows of `quality.csv` with their accuracy, the reference row first, of one label-set file.
        title: above the axes.
    """
    reference, generated = rows.iloc[0], rows.iloc[1:].dropna(subset=["coverage"])
    with saved_figure(path, height=4.4) as figure:
        entitle(figure, title)
        left, right = figure.subplots(1, 2)
        for axis in (left, right):
            axis.axvspan(reference["coverage_low"], reference["coverage_high"], color="0.5", alpha=0.25, linewidth=0)
            axis.axvline(reference["coverage"], color="0.3", linestyle="--", linewidth=1, label="real held-out images")
            for number, (method, group) in enumerate(generated.groupby("guidance_method", sort=False)):
                ordered = group.sort_values("guidance_weight")
                axis.errorbar(
                    ordered["coverage"],
                    ordered["accuracy"],
                    xerr=[
                        ordered["coverage"] - ordered["coverage_low"],
                        ordered["coverage_high"] - ordered["coverage"],
                    ],
                    yerr=[
                        ordered["accuracy"] - ordered["accuracy_low"],
                        ordered["accuracy_high"] - ordered["accuracy"],
                    ],
                    **look(number),
                    markersize=4,
                    linewidth=1,
                    elinewidth=0.4,
                    label=method,
                )
            axis.set_xlabel("coverage (95 % interval)")
            axis.grid(alpha=0.25)
        left.set_ylabel("accuracy (95 % interval)")
        corner = generated[generated["accuracy"] >= generated["accuracy"].median()]
        right.set_xlim(
            corner["coverage_low"].min() - 0.01, max(corner["coverage_high"].max(), reference["coverage"]) + 0.01
        )
        right.set_ylim(corner["accuracy_low"].min() - 0.005, 1.006)
        right.set_title("the upper half, enlarged", fontsize=9)
        for _, row in generated[generated["guidance_method"] == "plain"].iterrows():
            # Where guidance is at work the left axes are too crowded for names.
            axis, aside = (left, (4, -8)) if row["guidance_weight"] <= 0 else (right, (-8, 7))
            axis.annotate(
                f"w = {row['guidance_weight']:g}", (row["coverage"], row["accuracy"]), fontsize=7,
                xytext=aside, textcoords="offset points", annotation_clip=True,
            )  # fmt: skip
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)


def loss_curve(path: Path, training: pd.DataFrame) -> None:
    """Save the training loss and the learning rate against epoch, from the rows of `training.csv`."""
    with saved_figure(path, height=3.2) as figure:
        axis = figure.subplots()
        axis.plot(training["epoch"], training["loss"], color=COLOURS[0], linewidth=1.3)
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("{x:g}")
        axis.tick_params(axis="y", which="minor", labelsize=7)
        axis.set_xlabel("epoch")
        axis.set_ylabel("weighted mean squared error", color=COLOURS[0])
        axis.grid(alpha=0.25, which="both")
        rate = axis.twinx()
        rate.plot(training["epoch"], training["learning_rate"], color=COLOURS[1], linewidth=1, linestyle="--")
        rate.set_ylabel("learning rate at the epoch's end", color=COLOURS[1])
        rate.set_ylim(bottom=0)
        entitle(figure, "Training")


def step_losses(path: Path, losses: Sequence[float], title: str) -> None:
    """Save the loss of every optimizer step, and its natural logarithm beside it."""
    values, steps = np.asarray(losses), np.arange(1, len(losses) + 1)
    with saved_figure(path, height=2.6) as figure:
        entitle(figure, title)
        panels = {"loss": values, "ln(loss)": np.log(np.maximum(values, 1e-12))}
        for axis, (name, shown) in zip(figure.subplots(1, 2), panels.items(), strict=True):
            axis.plot(steps, shown, color=COLOURS[0], linewidth=0.7)
            axis.set_xlabel("optimizer step")
            axis.set_ylabel(name)
            axis.grid(alpha=0.25)
