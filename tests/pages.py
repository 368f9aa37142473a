"""Pages of reports for tests: a small sweep in which every image, and what is seen in it, is known."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from evaluator.judging.cells import JudgedCell
from evaluator.reporting.denoising import DenoisingMoments
from evaluator.reporting.page.contents import Page
from evaluator.reporting.results import Results
from lab.data.labels import ClassVocabulary, LabelSet

NAMES = ("cube", "sphere", "cone")
HOSTILE = ("\"'><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<!-- a\u2028b & ]]> \\u003c")
CHECKPOINTS = (("epoch0001", 1), ("epoch0002", 2))
METHODS = ("plain", "rescale")
WEIGHTS = (-1.0, 0.0, 2.0)
FILES = ("test", "new_test")
SEEDS = 2


def level(checkpoint: int, method: int, file: int, weight: int, seed: int, place: int) -> int:
    """Return the grey level of an image: another one for every image of a page."""
    return 20 + ((((checkpoint * 2 + method) * 2 + file) * 3 + weight) * 2 + seed) * 3 + place


def a_page(
    names: Sequence[str] = NAMES,
    name: str = "digits",
    label_set_files: Sequence[str] = FILES,
    seeds: int = SEEDS,
    side: int = 4,
    noise: bool = False,
    quality: bool = True,
) -> Page:
    """Return a page of 3 label sets a file. The larger the weight, the more of its images are right.

    Args:
        names: the classes.
        name: of the experiment.
        label_set_files: the names of the label-set files.
        seeds: images of a label set.
        side: of an image.
        noise: whether every pixel is random instead of the image's level.
        quality: whether coverage was measured.
    """
    vocabulary = ClassVocabulary(tuple(names))
    sets: list[LabelSet] = [(names[0],), (names[1], names[2]), (names[2],)]
    cells, random = [], torch.Generator().manual_seed(0)
    for c, (checkpoint, epoch) in enumerate(CHECKPOINTS):
        for m, method in enumerate(METHODS):
            for f, file in enumerate(label_set_files):
                for w, weight in enumerate(WEIGHTS):
                    levels = [level(c, m, f, w, seed % SEEDS, place) for seed in range(seeds) for place in range(3)]
                    pixels = torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, side, side)
                    if noise:
                        shape = (len(levels), 3, side, side)
                        pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=random)
                    logits = vocabulary.conditions(sets * seeds) * 4 - 2
                    # The first label set's image is wrong at w = -1, and of seed 0 at w = 0 too.
                    wrong = range(0, len(logits), 3) if weight < 0 else [0] if weight == 0 else []
                    for row in wrong:
                        logits[row] = torch.tensor([-2.0, 3.0, -1.0])
                    cells.append(
                        JudgedCell(
                            {
                                "checkpoint": checkpoint, "epoch": epoch, "step": 10 * epoch, "label_set": file,
                                "guidance_method": method, "guidance_weight": weight, "guidance_scale": 1 + weight,
                                "effective_guidance_scale": 1 + weight, "guidance_warning": "",
                                "guidance_settings": "phi=0.7" if method == "rescale" else "", "seeds": seeds,
                            },
                            {},
                            sets * seeds,
                            pixels.contiguous,
                            logits,
                            unconditional=weight == -1,
                        )
                    )  # fmt: skip
    conditions = vocabulary.conditions(sets)
    results = Results(vocabulary, cells, [], conditions * 2 - 1, conditions, conditions)
    rows = [
        {column: cell.settings[column] for column in ("checkpoint", "epoch", "label_set", "guidance_method")}
        | {"guidance_weight": cell.settings["guidance_weight"], "coverage": 0.5, "coverage_low": 0.4}
        | {"coverage_high": 0.6}
        for cell in results.cells_of_best_checkpoint
    ]
    real = {"coverage": 0.9, "coverage_low": 0.85, "coverage_high": 0.95}
    moments = [torch.full((5, *cells[0].pixels().shape[1:]), 50 * step, dtype=torch.uint8) for step in range(4)]
    return Page(
        name,
        results,
        warnings=[f"{names[0]} is rare"],
        quality=pd.DataFrame([real, *rows]) if quality else None,
        denoising=DenoisingMoments(moments, [9, 6, 3, -1]),
    )


def contents_of(page: Path) -> dict[str, Any]:
    """Return the JSON object of a written page."""
    _, _, rest = page.read_text(encoding="utf-8").partition('<script type="application/json" id="contents">')
    contents: dict[str, Any] = json.loads(rest.partition("</script>")[0])
    return contents


def levels_of(content: np.ndarray) -> list[int]:
    """Return the grey level of every image of a sheet of the pages' 4x4 images, row by row."""
    return [
        int(content[row, column]) for row in range(0, content.shape[0], 4) for column in range(0, content.shape[1], 4)
    ]
