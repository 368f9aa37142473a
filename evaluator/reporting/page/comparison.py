"""Comparison: several experiments under one evaluator, on one page.

Each experiment stands where a sweep's page has its methods of guidance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from evaluator.judging.cells import JudgedCell
from evaluator.reporting.page.contents import Page
from evaluator.reporting.page.document import FILE, write_page
from evaluator.reporting.results import Results


def joined(results: Mapping[str, Results]) -> Results:
    """Return the results of experiments as those of one sweep, whose methods are the experiments.

    An experiment of several methods or settings of sampling gives a method each, "NAME, METHOD".

    Args:
        results: of each experiment, by its name; all have the same classes, label-set files and evaluator.
    """
    cells = [_renamed(name, of_one) for name, of_one in results.items()]
    return replace(next(iter(results.values())), cells=[*chain(*cells)], earlier=[])


def _renamed(name: str, results: Results) -> list[JudgedCell]:
    several = len(results.methods) > 1
    return [
        replace(
            cell,
            settings=cell.settings
            | {"guidance_method": f"{name}, {cell.settings['guidance_method']}" if several else name}
            | ({} if several else {"guidance_settings": ""}),
        )
        for cell in results.cells
    ]


def write_comparison(
    folder: Path, name: str, results: Mapping[str, Results], compared: str, introduction: Sequence[str]
) -> None:
    """Write `report.html` of several experiments.

    Args:
        folder: the report's folder.
        name: of the comparison.
        results: of each experiment, by its name.
        compared: what the experiments are, in a word.
        introduction: paragraphs of plain text at the page's head.
    """
    write_page(folder / FILE, Page(name, joined(results), compared=compared, introduction=introduction))
