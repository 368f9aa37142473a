"""Denoising pictures: x at moments of sampling, as a strip of a few images and as sheets of many."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluator.reporting import figures
from lab.configuration.pictures import PicturesConfig
from lab.machine.files import remove_all, whole_folder
from lab.types import PixelImages

STRIP_ROWS = 4
"""Images of the strip."""
STRIP_FILE = "denoising_strip.png"
SHEETS = "denoising"
"""The folder of the sheets."""


PAGE_IMAGES = 10
"""Images of the page."""


@dataclass(frozen=True)
class DenoisingMoments:
    """The first images of a cell at every moment of sampling.

    Args:
        images: x after each sampling step, from starting noise to finished image; the same images in each.
        timesteps: the t of each x; -1 for the finished image.
    """

    images: Sequence[PixelImages]
    timesteps: Sequence[int]


def images_shown(pictures: PicturesConfig) -> int:
    """Return how many images are shown at every moment, at most."""
    return max(STRIP_ROWS, PAGE_IMAGES, pictures.grid)


def strip_caption(pictures: PicturesConfig) -> str:
    """Return "From noise to image", or the other way round if the strip is."""
    return "From image to noise" if pictures.clean_first else "From noise to image"


def write_denoising(
    folder: Path, moments: Mapping[int, PixelImages], pictures: PicturesConfig, row_names: Sequence[str], title: str
) -> None:
    """Write the strip and, if there are any, the sheets.

    Args:
        folder: of the report.
        moments: x after each step that is shown, in rising order.
        pictures: which moments are shown, and how.
        row_names: the names of the first images.
        title: of what the images are samples.
    """
    order = sorted(moments, reverse=pictures.clean_first)
    row_names = row_names[:STRIP_ROWS]
    figures.image_grid(
        folder / STRIP_FILE,
        np.stack([moments[step][: len(row_names)].numpy() for step in order], axis=1),
        row_names,
        [f"step {step}" for step in order],
        f"{title}: {strip_caption(pictures)[0].lower()}{strip_caption(pictures)[1:]}",
    )
    if not pictures.grid:
        # An earlier report may have sheets.
        remove_all((folder / SHEETS).glob("step*.png"))
    else:
        # The folder is replaced, so that no sheet of another choice of steps stays.
        with whole_folder(folder / SHEETS) as sheets:
            for step, images in moments.items():
                figures.image_sheet(
                    sheets / f"step{step:04d}.png", images[: pictures.grid].numpy(), f"{title}, after step {step}"
                )
