"""Drawing: the parts of matplotlib that reports use, imported without the user's backend.

A notebook exports MPLBACKEND. matplotlib reads it when it is first imported, and fails if it names a notebook backend
that is not installed. Drawing a file needs no backend, so every file here imports matplotlib from this one.
"""
# ruff: noqa: E402  # matplotlib must be imported before its submodules, without MPLBACKEND

import os

_backend = os.environ.pop("MPLBACKEND", None)
try:
    import matplotlib
finally:
    if _backend is not None:
        os.environ["MPLBACKEND"] = _backend

from matplotlib import font_manager
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ft2font import FT2Font
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

__all__ = [
    "Artist",
    "FT2Font",
    "Figure",
    "FigureCanvasAgg",
    "FontProperties",
    "Line2D",
    "MaxNLocator",
    "Rectangle",
    "Text",
    "font_manager",
    "matplotlib",
]
