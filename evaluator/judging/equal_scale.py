"""Equal scale: methods of guidance compared with plain guidance at the same effective guidance scale, and same cost.

The rows of plain guidance are a curve of accuracy against effective scale. For a row of another method at scale s
between two plain rows at s_0 and s_1, with share f = (s - s_0) / (s_1 - s_0), image by image:

    difference = sum_i (correct_i - (1 - f) correct_0,i - f correct_1,i) / sum_i asked_i

All rows start from the same noise, so the difference is paired. Its 95 % interval is a bootstrap over images (Efron &
Tibshirani 1993) that draws the same images for every row. Plain guidance at s costs what the dearer of its two rows
costs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from evaluator.judging.intervals import Interval, interval_columns

PLAIN = "plain"
RESAMPLES = 2000
NO_INTERVAL = Interval(np.nan, np.nan, np.nan)
OF_ROW = [
    "label_set", "guidance_method", "guidance_settings", "guidance_weight", "effective_guidance_scale",
    "network_evaluations", "accuracy", "accuracy_low", "accuracy_high",
]  # fmt: skip
"""The columns of a row of `sweep.csv` that a comparison keeps."""


@dataclass(frozen=True)
class FileRows:
    """The rows of one label-set file that are compared.

    Args:
        rows: of `sweep.csv`, of one checkpoint.
        correct: number of correct labels of each image at each row, (images, rows).
        asked: number of requested labels of each image, (images,), each above 0.
    """

    rows: pd.DataFrame
    correct: np.ndarray
    asked: np.ndarray


@dataclass(frozen=True)
class EqualScale:
    """Methods compared with plain guidance.

    Args:
        rows: the rows of `equal_scale.csv`: a row for every label-set file, method and weight, plain guidance's first.
        methods: the rows of `methods.csv`: a row for every method but plain guidance.
        bend: by how much accuracy at plain guidance's guided rows lies above the straight line between their two
            neighbours; the rows at the ends have none. Where weights are evenly spaced, a line between neighbours
            misses at most about a quarter of that.
    """

    rows: pd.DataFrame
    methods: pd.DataFrame
    bend: Interval


def can_compare(rows: pd.DataFrame) -> bool:
    """Return whether these rows of `sweep.csv` have plain guidance at two effective scales, and another method."""
    plain = rows["guidance_method"] == PLAIN
    return not plain.all() and rows.loc[plain, "effective_guidance_scale"].nunique() > 1


def equal_scale(files: Sequence[FileRows], seed: int = 0) -> EqualScale:
    """Compare every method with plain guidance at equal effective scale, and at equal guidance weight.

    A method's own difference is the mean over its rows, over the images of all files. At equal scale, a row counts if
    its scale lies within plain guidance's, it costs no more than plain guidance there, and the method is defined for
    it. At equal weight, a row counts if plain guidance has the same weight and the method is defined for it. Rows that
    do not guide count in neither: those at a scale of 1 or below, or at a weight below 0 if they have no scale.

    Args:
        files: the rows of each label-set file; each has `can_compare`.
        seed: seed of the bootstrap.

    Returns:
        `rows` has `plain_accuracy` and `plain_network_evaluations`, which are plain guidance at the row's scale,
        `at_equal_scale` and `at_equal_weight`, the differences in accuracy with their intervals, and
        `guidance_warning`. `methods` has both differences by method, the number of rows that each counts, and the
        number of rows in all and with a warning.
    """
    at_scale, at_weight, tables = [], [], []
    for place, file in enumerate(files):
        rows, differences = _compared(file, np.random.default_rng((seed, place)))
        tables.append(rows)
        at_scale.append(differences[0])
        at_weight.append(differences[1])
    asked = np.concatenate([file.asked for file in files])
    draws = _draws(len(asked), np.random.default_rng((seed, len(files))))
    methods = []
    for method in dict.fromkeys(name for rows in tables for name in rows["guidance_method"] if name != PLAIN):
        of_method = [(rows["guidance_method"] == method).to_numpy() for rows in tables]
        counted = [chosen & _counts(rows) for rows, chosen in zip(tables, of_method, strict=True)]
        defined = [
            chosen & _guides(rows) & rows["at_equal_weight"].notna().to_numpy()
            for rows, chosen in zip(tables, of_method, strict=True)
        ]
        warned = [chosen & (rows["guidance_warning"] != "") for rows, chosen in zip(tables, of_method, strict=True)]
        methods.append(
            {"guidance_method": method, "guidance_settings": _settings(tables, method)}
            | interval_columns("at_equal_scale", _pooled(at_scale, counted, asked, draws))
            | {"rows_at_equal_scale": int(sum(map(np.sum, counted)))}
            | interval_columns("at_equal_weight", _pooled(at_weight, defined, asked, draws))
            | {
                "rows_at_equal_weight": int(sum(map(np.sum, defined))),
                "rows": int(sum(map(np.sum, of_method))),
                "rows_with_warning": int(sum(map(np.sum, warned))),
            }
        )
    bends = [_bends(file) for file in files]
    every = [np.ones(bend.shape[1], dtype=bool) for bend in bends]
    return EqualScale(
        pd.concat(tables, ignore_index=True), pd.DataFrame(methods), bend=_pooled(bends, every, asked, draws)
    )


def shares(knots: np.ndarray, scale: float) -> np.ndarray | None:
    """Return the share of each knot in the linear interpolation at a scale, or None outside of the knots.

    Args:
        knots: distinct scales, in any order, (n,).
        scale: the scale.
    """
    order = np.argsort(knots)
    ordered = knots[order]
    if not ordered[0] <= scale <= ordered[-1]:  # a missing scale is outside too
        return None
    of_knots = np.zeros(len(knots))
    above = int(np.searchsorted(ordered, scale))
    if ordered[above] == scale:
        of_knots[order[above]] = 1
        return of_knots
    share = (scale - ordered[above - 1]) / (ordered[above] - ordered[above - 1])
    of_knots[order[above - 1]], of_knots[order[above]] = 1 - share, share
    return of_knots


def paired_difference(difference: np.ndarray, asked: np.ndarray, draws: np.ndarray) -> Interval:
    """Return sum(difference) / sum(asked) with its 95 % interval: percentiles over resampled images.

    Args:
        difference: difference in correct labels of each image, (images,).
        asked: number of requested labels of each image, (images,).
        draws: how often each resample draws each image, (resamples, images).
    """
    low, high = np.percentile((draws @ difference) / (draws @ asked), (2.5, 97.5))
    return Interval(float(difference.sum() / asked.sum()), float(low), float(high))


def _draws(images: int, generator: np.random.Generator) -> np.ndarray:
    return generator.multinomial(images, np.full(images, 1 / images), size=RESAMPLES).astype(np.float64)


def _compared(file: FileRows, generator: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a file's rows of `equal_scale.csv`, and the differences at equal scale and weight, (2, images, rows)."""
    rows = file.rows.reset_index(drop=True)
    scales, weights = (rows[name].to_numpy(float) for name in ("effective_guidance_scale", "guidance_weight"))
    plain = np.flatnonzero((rows["guidance_method"] == PLAIN).to_numpy() & ~np.isnan(scales))
    correct = file.correct.astype(np.float64)
    draws = _draws(len(file.asked), generator)
    differences = np.full((2, *correct.shape), np.nan)
    compared = []
    for row in range(len(rows)):
        of_knots, same = shares(scales[plain], scales[row]), plain[weights[plain] == weights[row]]
        values = {"plain_accuracy": np.nan, "plain_network_evaluations": np.nan}
        if of_knots is not None:
            interpolated = correct[:, plain] @ of_knots
            differences[0, :, row] = correct[:, row] - interpolated
            evaluations = rows["network_evaluations"].to_numpy(float)[plain][of_knots > 0].max()
            values = {
                "plain_accuracy": round(interpolated.sum() / file.asked.sum(), 6),
                "plain_network_evaluations": evaluations,
            }
        if len(same):
            differences[1, :, row] = correct[:, row] - correct[:, same[0]]
        for name, one in zip(("at_equal_scale", "at_equal_weight"), differences[:, :, row], strict=True):
            known = not np.isnan(one).any()
            values |= interval_columns(name, paired_difference(one, file.asked, draws) if known else NO_INTERVAL)
        compared.append(values | {"guidance_warning": rows["guidance_warning"][row]})
    return rows[OF_ROW].join(pd.DataFrame(compared)), differences


def _bends(file: FileRows) -> np.ndarray:
    """Return by how much plain guidance's guided rows exceed the line between their neighbours, (images, rows)."""
    scales = file.rows["effective_guidance_scale"].to_numpy(float)
    plain = np.flatnonzero((file.rows["guidance_method"] == PLAIN).to_numpy() & ~np.isnan(scales))
    plain = plain[np.unique(scales[plain], return_index=True)[1]]
    bends = [np.empty((len(file.asked), 0))]
    for low, row, high in zip(plain, plain[1:], plain[2:], strict=False):
        of_ends = shares(scales[[low, high]], scales[row])
        if of_ends is not None and scales[row] > 1:
            bends.append((file.correct[:, row] - file.correct[:, [low, high]] @ of_ends)[:, None])
    return np.concatenate(bends, axis=1)


def _guides(rows: pd.DataFrame) -> np.ndarray:
    """Return which rows guide as their method is defined: at a scale of 1, images are of the conditional prediction."""
    scale = rows["effective_guidance_scale"]
    beyond = (scale > 1) | (scale.isna() & (rows["guidance_weight"] >= 0))
    return np.asarray((rows["guidance_warning"] == "") & beyond)


def _counts(rows: pd.DataFrame) -> np.ndarray:
    """Return which rows count at equal scale, (rows,)."""
    same_cost = rows["network_evaluations"] <= rows["plain_network_evaluations"]
    return np.asarray(_guides(rows) & rows["at_equal_scale"].notna() & same_cost)


def _pooled(
    differences: Sequence[np.ndarray], counted: Sequence[np.ndarray], asked: np.ndarray, draws: np.ndarray
) -> Interval:
    """Return the mean difference over the rows that count in every file, over all images."""
    if not all(chosen.any() for chosen in counted):
        return NO_INTERVAL
    means = [of_file[:, chosen].mean(axis=1) for of_file, chosen in zip(differences, counted, strict=True)]
    return paired_difference(np.concatenate(means), asked, draws)


def _settings(tables: Sequence[pd.DataFrame], method: str) -> str:
    rows = tables[0]
    return str(rows.loc[rows["guidance_method"] == method, "guidance_settings"].iloc[0])
