"""Rehearsal of a report: what could fail at the end of a run is tried at its beginning.

A package that only the report imports, a name that only a figure draws and a folder that only the report writes to
would otherwise end a run after its minutes or days of training.
"""

from collections.abc import Sequence
from pathlib import Path

from lab.errors import LabError, lines_of
from lab.machine.files import require_writable


def rehearse_report(folder: Path, classes: Sequence[str], label_sets: Sequence[str]) -> list[str]:
    """Make a table of each kind and a figure in memory, with the names of a run, and try to write to its folder.

    Args:
        folder: of the report.
        classes: names of the classes.
        label_sets: names of the label-set files.

    Returns:
        What the user should know before the run, a line each.

    Raises:
        LabError: a package that the report needs is missing or broken, a name cannot be drawn, or the folder cannot be
            written to or holds a folder in a file's place.
    """
    try:
        missing = _rehearsed(classes, label_sets)
    except ImportError as error:
        raise LabError(
            f"the report cannot be made, because a package is missing: {lines_of(error)[0]}\n"
            "install the lab's packages again: pip install -e ."
        ) from None
    except Exception as error:  # any other library's, of which nothing else is known
        raise LabError(
            f"the report cannot be made: {lines_of(error)[0]}\n"
            "rename the class or label-set file that this names, or repair your matplotlibrc if it names that file"
        ) from error
    require_writable(folder)
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.suffix in (".csv", ".json", ".md", ".png", ".tex"):
            raise LabError(f"{path} is a folder where the report writes a file; move it away, or choose another --name")
    if not missing:
        return []
    shown = missing if len(missing) <= 20 else f"{missing[:20]}..."
    return [
        f"no installed font has {shown}; figures show boxes for them until one that has is installed (Noto Sans CJK)"
    ]


def _rehearsed(classes: Sequence[str], label_sets: Sequence[str]) -> str:
    """Import all that a report imports, make its tables and a figure, and return the characters that no font has."""
    import pandas as pd

    from evaluator.reporting import ablation, report, tutorial  # noqa: F401  # only to see that they can be imported
    from evaluator.reporting.canvas import canvas, png
    from evaluator.reporting.fonts import characters_to_draw, covering
    from evaluator.tables import csv, latex, markdown

    for table in (pd.DataFrame({"class": list(classes)}), pd.DataFrame({name: [0.5] for name in label_sets})):
        for written in (csv(table), markdown(table), latex(table, "caption", "label")):
            assert written
    with canvas(height=2) as figure:
        figure.subplots().plot([0, 1])
        figure.text(0, 0, "\n".join([*classes, *label_sets]))
        png(figure)
    return covering(characters_to_draw([*classes, *label_sets]))[1]
