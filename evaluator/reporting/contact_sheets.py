"""Contact sheets: the best row's images of a label-set file, in one picture and as single PNG files.

Each image has its label set below it. A cross and a colour mark the labels that the evaluator does not see, and the
frames of their images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from evaluator.judging.cells import JudgedCell
from evaluator.judging.scoring import ScoredImages
from evaluator.reporting.canvas import DPI, canvas, drawn, write_png
from evaluator.reporting.drawing import Artist, Figure, FigureCanvasAgg, FontProperties, Line2D, Rectangle
from evaluator.reporting.figures import COLOURS
from evaluator.reporting.picture_folders import write_pictures
from evaluator.reporting.results import Results
from evaluator.tables import escape_markdown
from lab.data.labels import LabelSet
from lab.machine.files import remove_all, whole_folder
from lab.types import PixelImages

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FOLDER = "images"
"""The report's folder of single images, with a subfolder for each label-set file."""
SHOWN = 200
"""The most images on a sheet. The folder has all images."""
ACROSS = 1100
"""Approximate width of a sheet in pixels."""
GAP = 14
"""Pixels between two columns."""
MARGIN = 10
LINE, TITLE_LINE = 17, 23
"""Pixels from one line of text to the next."""
BADGE = 20
"""Side in pixels of the cross on a wrong image."""
CROSS = "\N{MULTIPLICATION SIGN}"
LINES = 6
"""The most lines of labels below an image."""
FONT_SIZE = 7.0
TITLE_SIZE = 9.5
WRONG = COLOURS[1]

Measure = Callable[[str], float]
"""The width of a text in pixels."""
Line = tuple[str, bool]
"""A line of text, and True if it is marked as wrong."""


@dataclass(frozen=True)
class ContactSheet:
    """The first seed's images of one label-set file.

    Args:
        label_set: name of the file, without its suffix.
        pixels: the images, (N, C, H, W).
        label_sets: the label set of each image.
        missed: the labels of each image that the evaluator does not see.
        seeds: number of seeds in the sweep.
    """

    label_set: str
    pixels: PixelImages
    label_sets: Sequence[LabelSet]
    missed: Sequence[frozenset[str]]
    seeds: int

    @classmethod
    def of(cls, cell: JudgedCell, scored: ScoredImages, names: Sequence[str]) -> "ContactSheet":
        """Return the contact sheet of a scored cell; `names` are the classes of the vocabulary."""
        seeds = int(cell.settings["seeds"])
        first = slice(len(cell.label_sets) // seeds)
        missed = [frozenset(names[int(k)] for k in np.flatnonzero(row)) for row in (scored.asked & ~scored.seen)[first]]
        label_sets = list(cell.label_sets)[first]
        return cls(str(cell.settings["label_set"]), cell.pixels()[first], label_sets, missed, seeds)

    @property
    def file(self) -> str:
        """File name of the picture."""
        return f"images_{self.label_set}.png"

    @property
    def count(self) -> str:
        """Number of labels that the evaluator sees, like "95 of 100 labels"."""
        labels = sum(map(len, self.label_sets))
        return f"{labels - sum(map(len, self.missed))} of {labels} labels"

    @property
    def heading(self) -> str:
        """Title of the sheet: the file, the seed if there are several, and the number of labels seen."""
        of_seed = f" (seed 0 of {self.seeds})" if self.seeds > 1 else ""
        return f"{self.label_set}.json{of_seed}: {self.count} seen"

    @property
    def caption(self) -> str:
        """Caption below the picture on the page, as Markdown."""
        images, file = len(self.pixels), escape_markdown(f"{self.label_set}.json")
        shown = f"All {images} images" if images <= SHOWN else f"The first {SHOWN} of {images} images"
        of_seed = f", seed 0 of {self.seeds}," if self.seeds > 1 else ""
        folder = f"{FOLDER}/{escape_markdown(self.label_set)}/"
        return (
            f"{shown} of {file}{of_seed} at the best row, each above its label set. The evaluator sees {self.count}; "
            f"a cross marks each label that it does not see. Ready to hand in: {folder}0.png to {images - 1}.png."
        )


def contact_sheets(results: Results) -> list[ContactSheet]:
    """Return the best row's contact sheet for each label-set file; the file that ranks comes first."""
    return [ContactSheet.of(cell, scored, results.vocabulary.names) for cell, scored in results.best_cells]


def write_contact_sheets(folder: Path, title: str, sheets: Sequence[ContactSheet]) -> None:
    """Write every sheet as a picture and its images as PNG files, and remove the pictures of earlier label-set files.

    Args:
        folder: folder of the report.
        title: common part of the pictures' titles; each picture appends its own heading.
        sheets: all sheets of the report.
    """
    files = {sheet.file for sheet in sheets}
    remove_all(path for path in folder.glob("images_*.png") if path.name not in files)
    with whole_folder(folder / FOLDER) as images:
        for sheet in sheets:
            write_pictures(images / sheet.label_set, sheet.pixels)
    for sheet in sheets:
        write_contact_sheet(folder / sheet.file, f"{title}, {sheet.heading}", sheet)


def write_contact_sheet(path: Path, title: str, sheet: ContactSheet) -> None:
    """Save a sheet as a PNG file with 8 images per row, or 10 if there are more than 64 images."""
    count = min(len(sheet.pixels), SHOWN)
    most = 8 if count <= 64 else 10
    columns = min(most, max(count, 4))
    across = ACROSS // most - GAP
    images = [resized(image, across) for image in sheet.pixels[:SHOWN].permute(0, 2, 3, 1).numpy()]
    high, wide, _ = images[0].shape
    pitch = max(wide, across) + GAP
    inset = (pitch - GAP - wide) // 2
    width = 2 * MARGIN + columns * pitch - GAP
    # The height depends on the number of lines of text, which needs a figure to measure.
    with canvas(height=1) as figure:
        figure.set_dpi(DPI)
        figure.set_layout_engine("none")
        heading = broken(title, width - 2 * MARGIN, measure_of(figure, TITLE_SIZE))
        measure = measure_of(figure, FONT_SIZE)
        labels = [label_lines(sheet.label_sets[i], sheet.missed[i], pitch - 8, measure) for i in range(count)]
        top = 2 * MARGIN + len(heading) * TITLE_LINE
        row_height = high + 6 + LINE * max(map(len, labels)) + GAP
        height = top + -(-count // columns) * row_height
        figure.set_size_inches(width / DPI, height / DPI)
        axis = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
        axis.set_axis_off()
        paper = np.full((height, width, 4), 255, dtype=np.uint8)
        _write_lines(axis, MARGIN, MARGIN, [(line, False) for line in heading], TITLE_LINE, TITLE_SIZE, "left")
        places = [
            (MARGIN + column * pitch + inset, top + row * row_height)
            for row, column in (divmod(number, columns) for number in range(count))
        ]
        like: dict[tuple[Line, ...], int] = {}
        for number, (left, upper) in enumerate(places):
            wrong = bool(sheet.missed[number])
            paper[upper : upper + high, left : left + wide, :3] = images[number]
            if wrong or like.setdefault(tuple(labels[number]), number) == number:
                _frame(axis, left, upper, wide, high, wrong)
                _write_lines(axis, left + wide / 2, upper + high + 6, labels[number], LINE, FONT_SIZE, "center")
        figure.add_artist(_Paper(paper))
        picture = drawn(figure)
    # A right image has the frame and the labels of the first one with these labels: drawing text takes long.
    for number, (left, upper) in enumerate(places):
        if not sheet.missed[number]:
            of_this, of_first = (
                picture[y - 2 : y - 2 + row_height, x - inset - GAP // 2 :][:, :pitch]
                for x, y in ((left, upper), places[like[tuple(labels[number])]])
            )
            of_this[:] = of_first
            picture[upper : upper + high, left : left + wide] = images[number]
    write_png(path, picture)


class _Paper(Artist):
    """Pixels that cover the figure one to one, below all else; `imshow` would resample them.

    Args:
        pixels: (height, width, 4), 8 bits, as large as the figure.
    """

    zorder = -1

    def __init__(self, pixels: np.ndarray) -> None:
        super().__init__()
        self.pixels = pixels

    def draw(self, renderer: Any) -> None:
        renderer.draw_image(renderer.new_gc(), 0, 0, self.pixels[::-1])


def _frame(axis: "Axes", left: float, upper: float, wide: float, high: float, wrong: bool) -> None:
    """Draw the frame of an image; a wrong image has a thick coloured frame and a cross in its corner."""
    line, colour = (3.0, WRONG) if wrong else (0.75, "0.6")
    frame = Rectangle((left - 1, upper - 1), wide + 2, high + 2, fill=False, edgecolor=colour)
    frame.set_linewidth(line * 72 / DPI)
    # `add_patch` and `plot` would keep account of the limits of the data, which are fixed here.
    axis.add_artist(frame)
    if wrong:
        axis.add_artist(Rectangle((left + wide - BADGE, upper), BADGE, BADGE, facecolor=WRONG, edgecolor="none"))
        inner = [BADGE * share for share in (0.25, 0.75)]
        for ends in (inner, inner[::-1]):
            across = [left + wide - BADGE + end for end in ends]
            axis.add_artist(Line2D(across, [upper + end for end in inner], color="white", linewidth=3 * 72 / DPI))


def _write_lines(
    axis: "Axes", x: float, y: float, lines: Sequence[Line], pixels: int, size: float, side: Literal["left", "center"]
) -> None:
    for number, (text, wrong) in enumerate(lines):
        colour = WRONG if wrong else "black"
        axis.text(x, y + number * pixels, text, fontsize=size, color=colour, ha=side, va="top")


def resized(image: np.ndarray, side: int) -> np.ndarray:
    """Return an image, (H, W, C), as RGB of about this size: enlarged by a whole number, or reduced."""
    height, width, channels = image.shape
    image = np.repeat(image, 3 // channels, axis=2)
    longest = max(height, width)
    if longest > side:
        return np.asarray(Image.fromarray(image).resize((side * width // longest, side * height // longest)))
    times = int(side / longest + 0.3)
    return image.repeat(times, axis=0).repeat(times, axis=1)


def measure_of(figure: Figure, size: float) -> Measure:
    """Return a function that measures the width of a text of this font size in pixels of the figure."""
    renderer: Any = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]  # matplotlib's own
    font = FontProperties(size=size)
    return cache(lambda text: float(renderer.get_text_width_height_descent(text, font, ismath=False)[0]))


def label_lines(label_set: LabelSet, missed: frozenset[str], width: float, measure: Measure) -> list[Line]:
    """Return the lines of labels below an image. A label that is not seen starts with a cross and is marked wrong."""
    lines: list[Line] = []
    for name in label_set:
        wrong = name in missed
        lines += [(text, wrong) for text in broken(f"{CROSS} {name}" if wrong else name, width, measure)]
    if len(lines) > LINES:
        rest = lines[LINES - 1 :]
        lines = [*lines[: LINES - 1], (f"{CROSS} ..." if (wrong := any(each for _, each in rest)) else "...", wrong)]
    return lines


def broken(text: str, width: float, measure: Measure) -> list[str]:
    """Break text into lines of at most this width: between words, and inside words that are wider."""
    lines = [""]
    for word in text.split():
        if measure(longer := f"{lines[-1]} {word}".strip()) <= width:
            lines[-1] = longer
            continue
        lines += [""] if lines[-1] else []
        for letter in word:
            if lines[-1] and measure(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines
