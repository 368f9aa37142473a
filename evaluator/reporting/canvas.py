"""Canvas: an empty figure that ignores the user's matplotlib settings, and its PNG file.

These settings are meant for the user's own figures: a notebook exports MPLBACKEND, a matplotlibrc draws text with
LaTeX, a style makes all figures dark. Drawing a file needs neither a backend nor pyplot, so this module loads neither.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from evaluator.reporting.drawing import Figure, FigureCanvasAgg, Text, matplotlib
from evaluator.reporting.fonts import characters_to_draw, covering
from lab.machine.files import whole_file

WIDTH = 6.5
"""Inches: the text width of a page."""
DPI = 150

SETTINGS: dict[Any, Any] = {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}
"""matplotlib's defaults, independent of any matplotlibrc or style."""
# Class names come from a file: a dollar sign in one is a dollar sign, not the start of a formula.
SETTINGS["text.parse_math"] = False


@contextmanager
def canvas(height: float, width: float = WIDTH) -> Iterator[Figure]:
    """Yield an empty figure of this height and width in inches. Draw on it and save it within the block."""
    with matplotlib.rc_context(SETTINGS):
        yield Figure(figsize=(width, height), layout="constrained")


def drawn(figure: Figure) -> np.ndarray:
    """Return the pixels of a figure, (height, width, 3), 8 bits, with every text in fonts that have its characters.

    Characters missing from all installed fonts become boxes; `evaluator.reporting.rehearsal` warns of them once for all
    figures.
    """
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    families, _ = covering(characters_to_draw(text.get_text() for text in texts))
    for text in texts:
        text.set_fontfamily(families)
    figure.set_dpi(DPI)
    agg: Any = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", r"Glyph \d+ .* missing from|Matplotlib currently does not support", UserWarning
        )
        # `savefig` would draw twice, the first time for the layout alone, which `draw` makes too.
        agg.draw()
    # The figure's white face leaves no pixel transparent.
    return np.ascontiguousarray(np.asarray(agg.buffer_rgba())[..., :3])


def png(pixels: np.ndarray) -> bytes:
    """Return the pixels of a figure as a PNG file."""
    content = BytesIO()
    Image.fromarray(pixels).save(content, format="PNG", dpi=(DPI, DPI))
    return content.getvalue()


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write the pixels of a figure as a PNG file, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_bytes(png(pixels))


@contextmanager
def saved_figure(path: Path, height: float, width: float = WIDTH) -> Iterator[Figure]:
    """Yield an empty figure of this height and width in inches, then save it as a PNG file."""
    with canvas(height, width) as figure:
        yield figure
        pixels = drawn(figure)
    write_png(path, pixels)
