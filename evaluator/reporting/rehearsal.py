"""Rehearsal of a report: before a run begins, try everything that could make its report fail.

A package that only the report imports, a name that only a figure draws or a folder that only the report writes to would
otherwise end a run after minutes or days of training.
"""

from collections.abc import Sequence
from pathlib import Path

from lab.errors import LabError, lines_of
from lab.machine.files import require_writable


def rehearse_report(folder: Path, classes: Sequence[str], label_sets: Sequence[str]) -> list[str]:
    """Make every kind of table and a figure in memory, with the names of a run, and test writing to its folder.

    Args:
        folder: folder of the report.
        classes: names of the classes.
        label_sets: names of the label-set files.

    Returns:
        Warnings for the user, one line each.

    Raises:
        LabError: a package that the report needs is missing or broken, a name cannot be drawn, or the folder is not
            writable or contains a folder with the name of a report file.
    """
    try:
        missing = _rehearsed(classes, label_sets)
    except ImportError as error:
        raise LabError(
            f"the report needs a package that is missing: {lines_of(error)[0]}\n"
            "reinstall the lab's packages: pip install -e ."
        ) from None
    except Exception as error:  # another library may raise any exception
        raise LabError(
            f"the report cannot be written: {lines_of(error)[0]}\n"
            "rename the class or label-set file named here; if it names your matplotlibrc, repair that file"
        ) from error
    require_writable(folder)
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.suffix in (".csv", ".html", ".json", ".md", ".png", ".tex"):
            raise LabError(f"{path} is a folder, but the report writes a file there; move it or choose another --name")
    if not missing:
        return []
    shown = missing if len(missing) <= 20 else f"{missing[:20]}..."
    return [f"no installed font has {shown}; figures show boxes instead; install one that does (such as Noto Sans CJK)"]


def _rehearsed(classes: Sequence[str], label_sets: Sequence[str]) -> str:
    """Import the report's modules, make its tables and a figure, and return the characters missing from all fonts."""
    import pandas as pd

    from evaluator.reporting import ablation, report, tutorial  # noqa: F401  # tests that the import works
    from evaluator.reporting.canvas import canvas, drawn, png
    from evaluator.reporting.fonts import characters_to_draw, covering
    from evaluator.reporting.page.document import document
    from evaluator.tables import csv, latex, markdown

    for table in (pd.DataFrame({"class": list(classes)}), pd.DataFrame({name: [0.5] for name in label_sets})):
        for written in (csv(table), markdown(table), latex(table, "caption", "label")):
            assert written
    words = {"introduction": list(label_sets), "compared": "method", "left_out": []}
    assert document({"name": "name", "warnings": list(classes)} | words)
    with canvas(height=2) as figure:
        figure.subplots().plot([0, 1])
        figure.text(0, 0, "\n".join([*classes, *label_sets]))
        png(drawn(figure))
    return covering(characters_to_draw([*classes, *label_sets]))[1]
