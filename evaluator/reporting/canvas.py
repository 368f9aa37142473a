"""Canvas: an empty figure that only this lab's settings reach, and its PNG file.

The user's surroundings of matplotlib are for the user's own pictures: a notebook exports MPLBACKEND, a matplotlibrc has
LaTeX draw the text, a style turns everything dark. Neither a backend nor pyplot is needed to draw a file, so none is
loaded.
"""
# ruff: noqa: E402  # matplotlib is imported first, with care

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from lab.machine.files import whole_file

_backend = os.environ.pop("MPLBACKEND", None)
try:
    # It reads the variable, and refuses the backend of a notebook where that is not installed.
    import matplotlib
finally:
    if _backend is not None:
        os.environ["MPLBACKEND"] = _backend

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from evaluator.reporting.fonts import characters_to_draw, covering

WIDTH = 6.5
"""Inches, a page's text width."""
DPI = 150

SETTINGS: dict[Any, Any] = {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}
"""matplotlib's own, whatever a matplotlibrc or a style says."""
# Class names come from a file: a dollar sign in one must be a dollar sign, not the start of a formula.
SETTINGS["text.parse_math"] = False


@contextmanager
def canvas(height: float, width: float = WIDTH) -> Iterator[Figure]:
    """Yield an empty figure of this height and width in inches, to be drawn on and saved within the block."""
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file, every text in fonts that have its characters.

    Characters that no installed font has become boxes; `evaluator.reporting.rehearsal` warns of them, once for all
    figures.
    """
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    families, _ = covering(characters_to_draw(text.get_text() for text in texts))
    for text in texts:
        text.set_fontfamily(families)
    content = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", r"Glyph \d+ .* missing from|Matplotlib currently does not support", UserWarning
        )
        figure.savefig(content, dpi=DPI, format="png", metadata={"Software": None})
    return content.getvalue()


@contextmanager
def saved_figure(path: Path, height: float, width: float = WIDTH) -> Iterator[Figure]:
    """Yield an empty figure of this height and width in inches, and save it as a PNG file."""
    with canvas(height, width) as figure:
        yield figure
        content = png(figure)
    with whole_file(path) as temporary:
        temporary.write_bytes(content)
