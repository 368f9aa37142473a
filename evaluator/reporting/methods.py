"""Methods of guidance at equal effective scale: the section of a report's page, and its figure."""

from pathlib import Path

import numpy as np
import pandas as pd

from evaluator.judging.equal_scale import PLAIN, EqualScale
from evaluator.judging.intervals import Interval
from evaluator.reporting.canvas import saved_figure
from evaluator.reporting.figures import entitle, look
from evaluator.tables import escape_markdown, markdown, with_intervals

SCALE_FIGURE = "accuracy_vs_scale.png"
SCALE_CAPTION = (
    "Accuracy against effective guidance scale: one curve per method, one point per guidance weight; the band is the "
    "95 % interval of plain guidance. A method is better where its curve is above plain guidance's at the same scale."
)
FALSE_ALARMS = 0.025
"""The share of 95 % intervals that lie above 0 by chance, if there is no difference."""


def accuracy_against_scale(path: Path, compared: EqualScale, label_set: str, title: str) -> None:
    """Save accuracy against effective guidance scale: all of it on the left, above a scale of 1 enlarged on the right.

    Args:
        path: of the PNG file.
        compared: the comparison.
        label_set: name of the label-set file to show.
        title: above the axes.
    """
    rows = compared.rows[compared.rows["label_set"] == label_set].dropna(subset=["effective_guidance_scale"])
    with saved_figure(path, height=4.2) as figure:
        entitle(figure, title)
        guided = rows[rows["effective_guidance_scale"] >= 1]
        panels = [("all scales", rows), ("guided, enlarged", guided)][: 2 if 1 < len(guided) < len(rows) else 1]
        for axis, (name, shown) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            for place, (method, group) in enumerate(rows.groupby("guidance_method", sort=False)):
                ordered = group.loc[group.index.isin(shown.index)].sort_values("effective_guidance_scale")
                scale = ordered["effective_guidance_scale"]
                axis.plot(scale, ordered["accuracy"], **look(place), markersize=4, linewidth=1, label=str(method))
                if method == PLAIN:
                    low, high = ordered["accuracy_low"], ordered["accuracy_high"]
                    axis.fill_between(scale, low, high, color=look(place)["color"], alpha=0.15, linewidth=0)
            axis.set_xlabel("effective guidance scale")
            axis.set_title(name, fontsize=9)
            axis.grid(alpha=0.25)
        figure.axes[0].set_ylabel("accuracy")
        handles = figure.axes[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=4, fontsize=8)


def section(compared: EqualScale, label_set: str) -> list[str]:
    """Return the page's section on methods: the verdict in words, the table of methods, and the rows of one file."""
    methods = compared.methods.rename(columns={"guidance_method": "method", "guidance_settings": "settings"})
    rows = compared.rows[compared.rows["label_set"] == label_set].drop(columns=["label_set", "guidance_settings"])
    return [
        "## Methods at equal effective scale",
        " ".join((verdict(compared.methods), *straightness(compared.bend), _single_rows(compared.rows))),
        "The effective guidance scale of a row is measured while it is sampled: the projection of (guided - "
        "unconditional) on (conditional - unconditional), whose mean over steps and images is exactly 1 + w for plain "
        "guidance. It is missing if a method guides along another direction. At equal scale, plain guidance's curve is "
        "interpolated at the scale of the row, image by image from the same noise. Between two weights the curve is a "
        "straight line, and accuracy that levels off lies above it, so believe a small gain only if plain guidance was "
        "swept at weights close together. A row counts if it lies on that "
        "curve, costs no more network evaluations than plain guidance there, guides (a scale above 1), and the "
        "method is defined for it. "
        "Differences are in accuracy, averaged over a method's rows and the images of all label-set files, with 95 % "
        "intervals over images.",
        markdown(with_intervals(methods)),
        f"All rows on {escape_markdown(label_set)}.json (`equal_scale.csv` has those of every file):",
        markdown(with_intervals(rows.drop(columns="guidance_warning"))),
    ]


def verdict(methods: pd.DataFrame) -> str:
    """Say which methods beat plain guidance at equal effective scale, which only at equal weight, and which not."""
    better = methods["at_equal_scale_low"] > 0
    compared = methods["at_equal_scale"].notna()
    only_at_weight = compared & ~better & (methods["at_equal_weight_low"] > 0)
    worse = compared & (methods["at_equal_scale_high"] < 0)
    warned = ~compared & (methods["rows_with_warning"] == methods["rows"])
    unlike = ~compared & ~warned
    only = "no compared method beats it at equal w alone"
    if only_at_weight.any():
        do = "do" if only_at_weight.sum() > 1 else "does"
        only = f"at equal w alone, {_names(methods, only_at_weight)} {do}"
    sentences = [
        f"At equal effective scale and no more network evaluations, {_names(methods, better)} "
        f"{'beat' if better.sum() > 1 else 'beats'} plain guidance; {only}.",
        *([f"Worse at equal scale: {_names(methods, worse)}."] if worse.any() else []),
        *([f"Not compared, because no row has a scale and a cost that plain guidance has: {_names(methods, unlike)}."]
          if unlike.any() else []),
        *([f"Not compared, because no row is within what the method is defined for: {_names(methods, warned)}."]
          if warned.any() else []),
    ]  # fmt: skip
    return " ".join(sentences)


def straightness(bend: Interval) -> list[str]:
    """Say how far the straight lines of plain guidance's curve may lie below it, if that was measured."""
    if np.isnan(bend.value):
        return []
    measured = (
        f"Against the straight line between its two neighbours, each inner row of plain guidance has {bend.value:+.3f} "
        f"({bend.low:+.3f} to {bend.high:+.3f}) on average."
    )
    if bend.low <= 0:
        return [f"{measured} So no gain is known to come from the straight line."]
    return [
        f"{measured} At evenly spaced weights, the line between neighbouring weights lies up to about a quarter of "
        f"that too low, {bend.value / 4:.3f}: a gain of this size may come from the line."
    ]


def _names(methods: pd.DataFrame, chosen: pd.Series) -> str:
    return escape_markdown(", ".join(methods.loc[chosen, "guidance_method"])) or "no method"


def _single_rows(rows: pd.DataFrame) -> str:
    """Say how many single rows that guide lie outside plain guidance's curve, and how many would by chance."""
    single = rows[
        (rows["guidance_method"] != PLAIN)
        & (rows["effective_guidance_scale"] > 1)
        & rows["at_equal_scale"].notna()
        & (rows["guidance_warning"] == "")
    ]
    # Rows with the images of plain guidance cannot differ.
    single = single[(single["at_equal_scale_low"] != 0) | (single["at_equal_scale_high"] != 0)]
    above, below = int((single["at_equal_scale_low"] > 0).sum()), int((single["at_equal_scale_high"] < 0).sum())
    return (
        f"Of {len(single)} single rows that guide and differ, {above} lie above plain guidance's curve and {below} "
        f"below, each outside of its own interval; about {FALSE_ALARMS * len(single):.1f} on each side would be chance."
    )
