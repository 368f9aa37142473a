"""The report of an experiment: every table, every figure, and the pages that explain and show them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd

from evaluator.judging.cells import CELL
from evaluator.reporting import figures
from evaluator.reporting.best_of import best_of_section
from evaluator.reporting.contact_sheets import contact_sheets, write_contact_sheets
from evaluator.reporting.denoising import SHEETS, STRIP_FILE, DenoisingMoments, strip_caption, write_denoising
from evaluator.reporting.ema_lengths import ema_length_section, kept_rows
from evaluator.reporting.methods import SCALE_CAPTION, SCALE_FIGURE, accuracy_against_scale, section
from evaluator.reporting.page.contents import Page
from evaluator.reporting.page.document import FILE, write_page
from evaluator.reporting.printed import PrintedResult, with_printed
from evaluator.reporting.results import Results, columns_that_say_nothing, doubts_alone
from evaluator.reporting.two_judges import two_judges
from evaluator.reporting.verdict import verdict
from evaluator.tables import escape_markdown, latex, markdown, with_intervals, write_csv, write_text
from lab.configuration.pictures import PicturesConfig
from lab.machine.files import remove_all

SHOWN = 10
"""Columns of the sample figure and rows of the ranking on the page."""

CAPTIONS = {
    "samples.png": "Samples at every guidance weight. Each column starts from the same noise.",
    "accuracy_vs_weight.png": "Accuracy against guidance weight, with its 95 % interval; the accuracy that real "
    "held-out images reach for what they show, under the same evaluator; and chance.",
    "accuracy_by_class.png": "Accuracy of every class at every guidance weight, of the images that should show it.",
}
CAPTIONS_OF_EPOCHS = {"accuracy_vs_epoch.png": "Accuracy against training, for every guidance weight."}
CAPTIONS_OF_TRAINING = {"loss.png": "Training loss and learning rate."}
CAPTIONS_OF_SIZES = {
    "accuracy_by_size.png": "Accuracy by the size of the label set, and by whether an image that the generator was "
    "trained on shows them all together.",
}
CAPTIONS_OF_QUALITY = {
    "accuracy_vs_coverage.png": "Accuracy against coverage, the share of real images that have a generated one among "
    "their nearest: one curve per method, one point per guidance weight, with 95 % intervals. Up and right is better.",
}
CAPTIONS_OF_METHODS = {
    "accuracy_by_method.png": "Accuracy against guidance weight, and against network evaluations an image, for every "
    "method of guidance.",
    "samples_by_method.png": "Samples of every method at its best weight. Each column starts from the same noise.",
}


@dataclass(frozen=True)
class Report:
    """What a report is made of.

    Args:
        name: of the experiment.
        results: the sweep's.
        splits: the number of images in each split, by its name.
        evaluator: the row of `evaluator.csv`.
        training: the rows of `training.csv`; none if nothing was trained.
        moments: the first images of the best row after every sampling step.
        pictures: how the moments are shown.
        quality: the rows of `quality.csv`, or None if there is no second evaluator.
        best_of: the rows of `best_of_n.csv`, or None if there is no second evaluator.
        warnings: what the reader should know before believing anything.
        start: the checkpoint that the training started from, or None if it started from random weights.
        by_epoch: the rows of `accuracy_by_epoch.csv`; none if w = 0 was not measured.
        printed: results that the experiment's source printed.
    """

    name: str
    results: Results
    splits: Mapping[str, int]
    evaluator: pd.DataFrame
    training: pd.DataFrame
    moments: DenoisingMoments
    pictures: PicturesConfig
    quality: pd.DataFrame | None
    best_of: pd.DataFrame | None
    warnings: Sequence[str]
    start: str | None = None
    by_epoch: pd.DataFrame = field(default_factory=pd.DataFrame)
    printed: Sequence[PrintedResult] = ()

    @property
    def baselines(self) -> pd.DataFrame:
        """The rows of `baselines.csv`, and below them those that the source printed."""
        files = list(dict.fromkeys(str(cell.settings["label_set"]) for cell in self.results.cells))
        return with_printed(self.results.baselines, self.printed, files)

    @property
    def has_coverage(self) -> bool:
        """Whether any images of the file that ranks were enough for the measures of quality."""
        if self.quality is None:
            return False
        return bool(self.results.with_accuracy(self.quality)["coverage"].iloc[1:].notna().any())


def write_report(folder: Path, report: Report) -> None:
    """Write everything in a report's folder but `config.json`."""
    results = report.results
    tables = {
        "sweep": results.sweep_with_earlier,
        "accuracy_by_checkpoint": results.by_checkpoint,
        "ranking": results.ranking,
        "per_class": results.per_class,
        "accuracy_by_size": results.by_size,
        "baselines": report.baselines,
        "splits": split_table(report.splits),
        "evaluator": report.evaluator,
        "training": report.training,
    }
    tables |= {} if report.quality is None else {"quality": report.quality}
    tables |= {} if report.best_of is None else {"best_of_n": report.best_of}
    tables |= {"accuracy_by_epoch": report.by_epoch} if len(report.by_epoch) else {}
    if (compared := results.at_equal_scale) is not None:
        tables |= {"equal_scale": compared.rows, "methods": compared.methods}
    # An earlier report of the same networks may have them.
    optional = {"quality", "best_of_n", "accuracy_by_epoch", "equal_scale", "methods"}
    remove_all(folder / f"{name}.csv" for name in optional - tables.keys())
    for table_name, table in tables.items():
        write_csv(folder / f"{table_name}.csv", table)
    _write_latex(folder, results)
    _write_figures(folder, report)
    write_text(folder / "report.md", _page(report))
    page = Page(report.name, results, report.warnings, report.quality, report.moments, verdict(results))
    write_page(folder / FILE, page)


def minutes_of_training(training: pd.DataFrame, images: int) -> pd.Series:
    """Return how many minutes training took up to the end of each epoch, from the rows of `training.csv`.

    Args:
        training: the rows; none if nothing was trained.
        images: images in an epoch.
    """
    if not len(training):
        return pd.Series(dtype=float)
    return (images / training["images_per_second"]).cumsum() / 60


def split_table(splits: Mapping[str, int]) -> pd.DataFrame:
    """Return the rows of `splits.csv`: how many images each split has, and which share of all."""
    rows = pd.DataFrame(list(splits.items()), columns=["split", "images"])
    return rows.assign(share=(rows["images"] / rows["images"].sum()).round(4))


def _captions(report: Report) -> dict[str, str]:
    """Return the caption of every figure that this report has, as Markdown."""
    without_ceiling = {
        "accuracy_vs_weight.png": "Accuracy against guidance weight, with its 95 % interval; and chance."
    }
    return (
        {"samples.png": CAPTIONS["samples.png"]}
        | {sheet.file: sheet.caption for sheet in contact_sheets(report.results)}
        | CAPTIONS
        | (CAPTIONS_OF_EPOCHS if len(_of_training(report.results)) else {})
        | {STRIP_FILE: f"{strip_caption(report.pictures)}: moments of the sampler, at the best row."}
        | (without_ceiling if report.results.ceiling is None else {})
        | (CAPTIONS_OF_TRAINING if len(report.training) else {})
        | (CAPTIONS_OF_SIZES if report.results.has_sizes else {})
        | (CAPTIONS_OF_METHODS if len(report.results.methods) > 1 else {})
        | ({} if report.results.at_equal_scale is None else {SCALE_FIGURE: SCALE_CAPTION})
        | (CAPTIONS_OF_QUALITY if report.has_coverage else {})
    )


def _of_training(results: Results) -> pd.DataFrame:
    """Return the rows of the training's own checkpoints; none if all that were swept are rebuilt from EMAs."""
    return kept_rows(results.sweep[results.sweep["label_set"] == results.ranked_by])


def _readable(table: pd.DataFrame) -> pd.DataFrame:
    return with_intervals(table).drop(columns=columns_that_say_nothing(table))


def top_rows(results: Results, count: int) -> str:
    """Return the best rows of the ranking as plain text for a terminal."""
    return _readable(doubts_alone(results.ranking.head(count))).to_string(index=False)


def _write_latex(folder: Path, results: Results) -> None:
    note = "w: guidance weight, s = 1 + w: guidance scale; 95 % intervals in parentheses, resampling images."
    # Short names, so that the tables fit a page's width.
    short = {
        "guidance_weight": "w",
        "guidance_scale": "s",
        "effective_guidance_scale": "effective s",
        "tied_with_best": "tied",
    }
    left_out = ["epoch", "rank_low", "rank_high", "behind_best", "behind_best_low", "behind_best_high"]
    by_checkpoint, best = (
        _readable(doubts_alone(table.drop(columns=left_out, errors="ignore")))
        .rename(columns=short)
        .map(lambda cell: re.sub(r"(?<=\d) to (?=-?\d)", "--", cell) if isinstance(cell, str) else cell)
        for table in (results.by_checkpoint, results.ranking.head(SHOWN))
    )
    write_text(
        folder / "accuracy_by_checkpoint.tex",
        latex(by_checkpoint, f"Accuracy by checkpoint and guidance. {note}", "tab:by-checkpoint"),
    )
    write_text(folder / "ranking.tex", latex(best, f"The {len(best)} best rows. {note}", "tab:ranking"))


def _write_figures(folder: Path, report: Report) -> None:
    name, results, training, quality = report.name, report.results, report.training, report.quality
    best, sweep = results.best, results.sweep
    title = f"{name}, {best['checkpoint']}"
    method = best["guidance_method"]
    rows = [cell for cell in results.cells_of(method) if cell.settings["label_set"] == results.ranked_by]
    names = ["\n".join(label_set) for label_set in rows[0].label_sets[:SHOWN]]
    figures.image_grid(
        folder / "samples.png",
        np.stack([cell.pixels()[:SHOWN].numpy() for cell in rows]),
        [figures.weight_name(cell.settings["guidance_weight"]) for cell in rows],
        names,
        f"{title}, {method} guidance: one row per weight, the same noise down a column",
    )
    of_best = f"{title}, {method} guidance, w = {best['guidance_weight']:g}"
    write_contact_sheets(folder, of_best, contact_sheets(results))
    figures.accuracy_against_weight(
        folder / "accuracy_vs_weight.png",
        sweep[(sweep["checkpoint"] == best["checkpoint"]) & (sweep["guidance_method"] == method)],
        ceiling=results.ceiling,
        chance=results.chance,
        title=f"{title}, {method} guidance",
    )
    if len(by_epoch := _of_training(results)):
        # If the best row is the teacher's, its student may have no row of that method.
        of_training = [method, *results.methods]
        shown = next(each for each in of_training if (by_epoch["guidance_method"] == each).any())
        figures.accuracy_against_epoch(
            folder / "accuracy_vs_epoch.png",
            by_epoch[by_epoch["guidance_method"] == shown],
            f"{name}, {results.ranked_by}.json, {shown} guidance",
            minutes_of_training(training, report.splits["generator"]),
        )
    classes = (results.per_class["checkpoint"] == best["checkpoint"]) & (results.per_class["guidance_method"] == method)
    figures.accuracy_of_classes(
        folder / "accuracy_by_class.png",
        results.per_class[classes & (results.per_class["label_set"] == results.ranked_by)],
        f"{title}, {method} guidance, {results.ranked_by}.json",
    )
    if results.has_sizes:
        figures.accuracy_of_sizes(
            folder / "accuracy_by_size.png",
            results.by_size_of_best,
            of_best,
        )
    if quality is not None and report.has_coverage:
        figures.accuracy_against_coverage(
            folder / "accuracy_vs_coverage.png",
            results.with_accuracy(quality),
            f"{title}, {results.ranked_by}.json",
        )
    if len(results.methods) > 1:
        figures.accuracy_of_methods(
            folder / "accuracy_by_method.png",
            results.of_best_checkpoint(sweep[sweep["label_set"] == results.ranked_by]),
            f"{title}, {results.ranked_by}.json",
        )
        figures.image_grid(
            folder / "samples_by_method.png",
            np.stack([cell.pixels()[:SHOWN].numpy() for cell in results.best_of_methods]),
            [
                f"{cell.settings['guidance_method']}\nw = {cell.settings['guidance_weight']:g}"
                for cell in results.best_of_methods
            ],
            names,
            f"{title}: each method at its best weight, the same noise down a column",
        )
    if (compared := results.at_equal_scale) is not None:
        accuracy_against_scale(folder / SCALE_FIGURE, compared, results.ranked_by, f"{title}, {results.ranked_by}.json")
    if len(training):
        figures.loss_curve(folder / "loss.png", training)
    shown = report.pictures.shown(len(report.moments.images) - 1)
    moments = {step: report.moments.images[step] for step in shown}
    write_denoising(folder, moments, report.pictures, names, of_best)


def _page(report: Report) -> str:
    results, quality = report.results, report.quality
    ranked = results.ranking
    parts = [
        f"# {escape_markdown(report.name)}",
        *(f"> **Warning.** {escape_markdown(warning)}" for warning in report.warnings),
        *map(escape_markdown, verdict(results)),
        "Accuracy follows the coursework's rule: if an image's label set has k classes, the evaluator's k "
        "highest-scoring classes count, and accuracy is the correct labels over all labels. Intervals are 95 % and "
        "resample images.",
        *(
            []
            if report.start is None
            else [f"The training started from the weights of {escape_markdown(report.start)}."]
        ),
        "## Ranking",
        markdown(_readable(ranked.head(SHOWN))),
        f"The first {min(SHOWN, len(ranked))} of {len(ranked)}; all are in `ranking.csv`.",
        *ema_length_section(results.sweep, results.ranked_by, str(results.best["guidance_method"])),
        *([] if results.at_equal_scale is None else section(results.at_equal_scale, results.ranked_by)),
        "## Figures",
        # A label-set file's name may hold a blank or a bracket.
        *(f"![{caption}]({quote(file)})\n\n*{caption}*" for file, caption in _captions(report).items()),
        "## Baselines",
        markdown(with_intervals(report.baselines)),
        "The ceiling was not measured: no image is held out."
        if results.ceiling is None
        else "Real held-out images are the ceiling: a generator cannot be shown to be better than the evaluator.",
        *(
            ["Rows printed by the source are its own: one training each, under its own evaluator, without an interval."]
            if report.printed
            else []
        ),
        "Unconditional images, and images scored against the label sets of others, are the floor. The floor is chance "
        "if all classes occur equally often in the label sets, and higher if some occur more often.",
        *([] if quality is None else two_judges(results, quality)),
        *_quality(results, quality),
        *([] if report.best_of is None else best_of_section(report.best_of, results.best, results.ranked_by)),
        "## Splits",
        markdown(split_table(report.splits)),
        _unseen(report),
        "## Evaluator",
        markdown(with_intervals(report.evaluator)),
        "## Accuracy by checkpoint and guidance weight",
        markdown(_readable(results.by_checkpoint)),
        "## Files",
        f"`{FILE}` (the page that shows the images, in a browser), `sweep.csv` (a row per cell), "
        "`accuracy_by_checkpoint.csv`, `ranking.csv`, `per_class.csv`, "
        f"`accuracy_by_size.csv`, {'`accuracy_by_epoch.csv` (w = 0), ' if len(report.by_epoch) else ''}"
        f"{'' if quality is None else '`quality.csv`, `best_of_n.csv`, '}"
        f"{'' if results.at_equal_scale is None else '`equal_scale.csv`, `methods.csv`, '}`baselines.csv`, "
        "`splits.csv`, `evaluator.csv`, `training.csv`, `config.json` (every setting, the seed and the versions), for "
        "LaTeX `accuracy_by_checkpoint.tex` and `ranking.tex`, and the folder `images/` (the single images of the best "
        "row, a folder for each label-set file, as scoring reads them)."
        + (
            f" `{SHEETS}/` has its first {report.pictures.grid} images at every moment shown."
            * (report.pictures.grid > 0)
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _unseen(report: Report) -> str:
    """Return what is known about the images that no network was trained on."""
    disjoint = "No image is in two splits"
    from_files = {
        "generator": not len(report.training),
        "starting checkpoint": report.start is not None,
        "evaluator": bool(report.evaluator["training_images"].isna().all()),
    }
    names = [name for name, is_from_file in from_files.items() if is_from_file]
    if not names:
        return f"{disjoint}, and no network here is trained on the held-out images."
    unknown = (
        f"{disjoint}. This experiment did not train the {' or the '.join(names)}, and the images that did are unknown"
    )
    if report.results.ceiling is None:
        return f"{unknown}."
    return f"{unknown}. Held-out images may be among them, and numbers that use held-out images may be too good."


QUALITY_SHOWN = ("second_accuracy", "coverage", "density", "precision", "recall", "frechet_distance", "kernel_distance")


def _quality(results: Results, quality: pd.DataFrame | None) -> list[str]:
    """Return the page's section on quality: the reference row and the best row of each method."""
    if quality is None:
        return []
    best = pd.DataFrame([cell.settings for cell in results.best_of_methods])[[*CELL]]
    rows = pd.concat([quality.head(1), best.merge(quality, on=CELL, how="left")])
    rows.insert(0, "images of", rows["guidance_method"].fillna(str(rows["of"].iloc[0])))
    rows.insert(1, "w", rows["guidance_weight"])
    shown = [column for column in rows if str(column).removesuffix("_low").removesuffix("_high") in QUALITY_SHOWN]
    return [
        "## Quality beside accuracy",
        markdown(with_intervals(rows[["images of", "w", *shown]])),
        f"The measures use the features of the second evaluator, which the ranking does not use. Each row compares "
        f"{int(rows['images'].iloc[0])} images with those that the generator was trained on. The first row is real "
        "images that no network has seen. Coverage is the share of real images with a generated one among their "
        "nearest; density and precision say how far generated images lie among real ones, recall how far real images "
        "lie among generated ones. The table has the best row of each method; `quality.csv` has all rows, and the "
        "distances within a label set and to the nearest training image.",
    ]
