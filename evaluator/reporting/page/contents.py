"""Contents: what the page shows, as one JSON object.

All numbers of the page are of all images. Only the images themselves, and what the evaluator saw in each, may be of a
selection, so that the file stays small.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from evaluator.judging.cells import CELL, JudgedCell
from evaluator.judging.scoring import chance
from evaluator.reporting.denoising import PAGE_IMAGES, DenoisingMoments
from evaluator.reporting.ema_lengths import kept_rows
from evaluator.reporting.page.selection import Selection, Sweep, evenly
from evaluator.reporting.page.sprites import base64, sprite_columns, sprite_sheet
from evaluator.reporting.results import Results, columns_that_say_nothing
from lab.data.labels import LabelSet

FORMAT = 1
"""Increase it when the meaning of the object changes: a page reads other reports of its own format only."""
LARGEST = 8 * 2**20
"""Bytes of a page."""
MOST_FRAMES = 41
"""Moments of denoising."""
UNASKED_SHOWN = 3
"""Classes of each image beyond the size of the largest label set, in the order of their logits."""
SAMPLED_CELLS = 12
"""Cells whose first images are encoded to estimate the size of all."""
SAMPLED_IMAGES = 64


@dataclass(frozen=True)
class Page:
    """What a page is made of.

    Args:
        name: of the experiment.
        results: the sweep's.
        warnings: what the reader should know before believing anything.
        quality: the rows of `quality.csv`, or None.
        denoising: the first images of the best row at every moment of sampling, or None.
        introduction: paragraphs of plain text at the page's head.
        compared: what the results' methods are, in a word.
    """

    name: str
    results: Results
    warnings: Sequence[str] = ()
    quality: pd.DataFrame | None = None
    denoising: DenoisingMoments | None = None
    introduction: Sequence[str] = ()
    compared: str = "method"


@dataclass(frozen=True)
class _Axes:
    """What the cells differ in.

    Args:
        epochs: the epoch of each checkpoint, by name, in order.
        of_training: the checkpoints that the training kept: no rebuilt EMAs, and not a student's teacher.
        files: the first cell of each label-set file, by name, in order.
    """

    epochs: Mapping[str, int]
    of_training: frozenset[str]
    files: Mapping[str, JudgedCell]

    @classmethod
    def of(cls, results: Results) -> "_Axes":
        epochs = {str(cell.settings["checkpoint"]): int(cell.settings["epoch"]) for cell in results.cells}
        files: dict[str, JudgedCell] = {}
        for cell in results.cells:
            files.setdefault(str(cell.settings["label_set"]), cell)
        of_training = frozenset(map(str, kept_rows(results.sweep)["checkpoint"]))
        return cls(epochs, of_training, files)

    def sweep(self, results: Results) -> Sweep:
        """Return what there is to select from."""
        cells = Counter(str(cell.settings["label_set"]) for cell in results.cells_of_best_checkpoint)
        return Sweep(
            seeds={file: _seeds(cell) for file, cell in self.files.items()},
            label_sets={file: len(_label_sets(cell)) for file, cell in self.files.items()},
            cells={file: cells[file] for file in self.files},
            checkpoints=len(self.epochs),
            best=list(self.epochs).index(str(results.best["checkpoint"])),
        )


def contents(page: Page, room: int = LARGEST) -> dict[str, Any]:
    """Return the JSON object of a page.

    Args:
        page: what it is made of.
        room: the most bytes of the object as JSON. If even the smallest selection of images needs more, the object
            has that selection.
    """
    axes = _Axes.of(page.results)
    numbers = _numbers_of(page, axes)
    room -= len(json.dumps(numbers)) + 1000
    sweep, a_image = axes.sweep(page.results), _bytes_of_an_image(page.results)
    classes = _classes_shown(page.results)
    images = int(room / a_image)
    while True:
        selection = sweep.select(images)
        shown = [_images_of(cell, axes, selection, classes) for cell in page.results.cells]
        needed = sum(len(text) for cell in shown for text in cell.values())
        smallest = selection == sweep.select(1)
        if needed <= room or smallest:
            break
        images = int(images * 0.97 * room / needed)
    for cell, of_cell in zip(numbers["cells"], shown, strict=True):
        cell.update(of_cell)
    for file in numbers["files"]:
        file["shown_seeds"] = list(selection.seeds[file["name"]])
        file["shown_label_sets"] = list(selection.label_sets[file["name"]])
    return numbers | {"left_out": sweep.left_out(selection)}


def _numbers_of(page: Page, axes: _Axes) -> dict[str, Any]:
    """Return the object without the images of the cells."""
    results = page.results
    names = results.vocabulary.names
    index = {name: k for k, name in enumerate(names)}
    files, checkpoints = list(axes.files), list(axes.epochs)
    best = results.best
    covered = {} if page.quality is None else _coverage(page.quality)
    channels, height, width = results.cells[0].pixels().shape[1:]
    return {
        "format": FORMAT,
        "name": page.name,
        "introduction": list(page.introduction),
        "compared": page.compared,
        "warnings": list(page.warnings),
        "image": {"channels": channels, "height": height, "width": width},
        "classes": list(names),
        "classes_shown": _classes_shown(results),
        "checkpoints": [
            {"name": name, "epoch": epoch, "of_training": name in axes.of_training}
            for name, epoch in axes.epochs.items()
        ],
        "methods": results.methods,
        "files": [
            {
                "name": file,
                "seeds": _seeds(first),
                "label_sets": [[index[name] for name in asked] for asked in _label_sets(first)],
                "chance": round(chance(results.vocabulary.conditions(_label_sets(first))), 6),
            }
            for file, first in axes.files.items()
        ],
        "ceiling": None
        if results.ceiling is None
        else [round(value, 6) for value in (results.ceiling.value, results.ceiling.low, results.ceiling.high)],
        "real_coverage": covered.get(None),
        "cells": [
            {
                "checkpoint": checkpoints.index(str(cell.settings["checkpoint"])),
                "method": results.methods.index(cell.settings["guidance_method"]),
                "file": files.index(str(cell.settings["label_set"])),
                "weight": float(cell.settings["guidance_weight"]),
                "settings": str(cell.settings.get("guidance_settings", "")),
                "evaluations": cell.settings.get("network_evaluations"),
                **_measures(row),
                "coverage": covered.get(tuple(cell.settings[column] for column in CELL)),
                "correct": base64(np.minimum(scored.correct_labels, 255).astype(np.uint8).tobytes()),
            }
            for cell, scored, row in zip(results.cells, results.scored, results.rows, strict=True)
        ],
        "best": {
            "checkpoint": checkpoints.index(str(best["checkpoint"])),
            "method": results.methods.index(best["guidance_method"]),
            "weight": float(best["guidance_weight"]),
            "file": 0,
        },
        # The script looks rows up by their step and method.
        "ranking": _table(
            results.ranking.drop(columns=set(columns_that_say_nothing(results.ranking)) - {"step", "guidance_method"})
        ),
        "denoising": None
        if page.denoising is None
        else _denoising(page.denoising, most=min(PAGE_IMAGES, len(_label_sets(axes.files[files[0]])))),
    }


def _seeds(cell: JudgedCell) -> int:
    return int(cell.settings.get("seeds", 1))


def _label_sets(cell: JudgedCell) -> Sequence[LabelSet]:
    return cell.label_sets[: len(cell.label_sets) // _seeds(cell)]


def _measures(row: Mapping[str, Any]) -> dict[str, list[float]]:
    return {
        measure: [row[measure], row[f"{measure}_low"], row[f"{measure}_high"]]
        for measure in ("accuracy", "exact_match", "unasked_rate")
    }


def _coverage(quality: pd.DataFrame) -> dict[Any, list[float]]:
    """Return the coverage and its interval of every cell that has one; that of real images has the key None."""
    return {
        None if pd.isna(row["label_set"]) else tuple(row[column] for column in CELL): [
            float(row[column]) for column in ("coverage", "coverage_low", "coverage_high")
        ]
        for _, row in quality.iterrows()
        if not pd.isna(row["coverage"])
    }


def _table(table: pd.DataFrame) -> dict[str, Any]:
    """Return a table as its columns and rows of primitives."""
    rows = table.astype(object).where(table.notna(), None).to_numpy().tolist()
    plain = [[value.item() if isinstance(value, np.generic) else value for value in row] for row in rows]
    return {"columns": [str(column) for column in table.columns], "rows": plain}


def _denoising(moments: DenoisingMoments, most: int) -> dict[str, Any]:
    """Return the sheet of the first images, of seed 0: all after one step, then all after the next one shown."""
    steps = evenly(len(moments.images), MOST_FRAMES)
    pixels = torch.cat([moments.images[step][:most] for step in steps])
    return {
        "images": len(moments.images[0][:most]),
        "steps": steps,
        "of_steps": len(moments.images) - 1,
        "timesteps": [moments.timesteps[step] for step in steps],
        "sheet": base64(sprite_sheet(pixels)),
        "columns": sprite_columns(len(pixels)),
    }


def _classes_shown(results: Results) -> int:
    largest = max(int(scored.labels.max()) for scored in results.scored)
    return min(len(results.vocabulary), largest + UNASKED_SHOWN)


def _bytes_of_an_image(results: Results) -> float:
    """Return about how many bytes of JSON an image needs."""
    cells = [results.cells[place] for place in evenly(len(results.cells), SAMPLED_CELLS)]
    samples = [cell.pixels()[:SAMPLED_IMAGES] for cell in cells]
    encoded = sum(len(sprite_sheet(sample)) for sample in samples) / sum(map(len, samples))
    return 4 / 3 * (encoded + 2 * _classes_shown(results) * (1 if len(results.vocabulary) <= 256 else 1.5))


def _images_of(cell: JudgedCell, axes: _Axes, selection: Selection, classes: int) -> dict[str, str]:
    """Return the images of a cell that are shown, and what the evaluator saw in them; nothing if none is shown.

    Args:
        cell: the cell.
        axes: what the cells differ in.
        selection: which images are shown.
        classes: how many of an image's classes are shown.
    """
    if list(axes.epochs).index(str(cell.settings["checkpoint"])) not in selection.checkpoints:
        return {}
    chosen = selection.of(str(cell.settings["label_set"]), len(_label_sets(cell)))
    logits = cell.logits[chosen]
    order = logits.argsort(dim=1, descending=True, stable=True)[:, :classes]
    probabilities = (logits.gather(1, order).sigmoid() * 255).round()
    index_type = np.uint8 if cell.logits.shape[1] <= 256 else "<u2"
    return {
        "sheet": base64(sprite_sheet(cell.pixels()[chosen])),
        "seen": base64(order.numpy().astype(index_type).tobytes()),
        "probabilities": base64(probabilities.numpy().astype(np.uint8).tobytes()),
    }
