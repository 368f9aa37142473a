"""The tutorial's table and page: the gain of every step from corrupted images to guided diffusion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from evaluator.reporting import figures
from evaluator.reporting.canvas import saved_figure
from evaluator.tables import escape_markdown, markdown, with_intervals, write_csv, write_text

CAPTIONS = {
    "corruption.png": "Corrupted images with more noise from left to right, and the clean images that the two networks "
    "of the corruption baseline predict from them.",
    "five_steps.png": "The corruption baseline in five steps: the network's input and its prediction of the clean "
    "image. Each step mixes a larger share of the prediction into the input.",
    "losses.png": "Mean squared error of the predicted clean image, for pixels from 0 to 1, against images seen.",
    "denoising_strip.png": "DDPM by hand: ten moments from noise to image.",
    "samples.png": "Samples of every step. Each column shows one class if the step's network takes a label.",
}


@dataclass(frozen=True)
class Grid:
    """A grid of images with named rows and columns.

    Args:
        images: 8-bit images, (rows, columns, C, H, W).
        rows: the name of each row.
        columns: the name of each column.
    """

    images: np.ndarray
    rows: Sequence[str]
    columns: Sequence[str]


MNIST_IMAGES = 60_000


def loss_curves(path: Path, losses: Mapping[str, pd.DataFrame], on_mnist: Mapping[str, Mapping[int, float]]) -> None:
    """Save a figure of the losses of several trainings against images seen.

    Args:
        path: path of the PNG file.
        losses: a table with the columns "images", "loss" and "mean_loss" for each training, by its name.
        on_mnist: the mean loss of each epoch over MNIST in the tutorials, by training and epoch number; may be empty.
    """
    with saved_figure(path, height=3.2) as figure:
        axis = figure.subplots()
        for place, (name, rows) in enumerate(losses.items()):
            colour = figures.COLOURS[place]
            axis.plot(rows["images"], rows["loss"], color=colour, linewidth=1.3, label=name)
            if reference := on_mnist.get(name):
                axis.plot(
                    rows["images"], rows["mean_loss"], color=colour, linewidth=1, linestyle=":", label="mean so far"
                )
                axis.hlines(
                    list(reference.values()),
                    [(epoch - 1) * MNIST_IMAGES for epoch in reference],
                    [epoch * MNIST_IMAGES for epoch in reference],
                    color=colour,
                    linewidth=3,
                    alpha=0.4,
                    label=f"{name} in the tutorials, mean of an MNIST epoch",
                )
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("{x:g}")
        axis.tick_params(axis="y", which="minor", labelsize=7)
        axis.set_xlabel("images seen")
        axis.set_ylabel("mean squared error")
        axis.grid(alpha=0.25, which="both")
        axis.legend(fontsize=8)


def title(file: str) -> str:
    """Return a figure's file name as words."""
    return file.removesuffix(".png").replace("_", " ")


def write_tutorial(
    folder: Path,
    name: str,
    table: pd.DataFrame,
    reference: pd.DataFrame,
    grids: Mapping[str, Grid],
    losses: Mapping[str, pd.DataFrame],
    on_mnist: Mapping[str, Mapping[int, float]],
    warnings: Mapping[str, str],
) -> None:
    """Write `tutorial.csv`, `losses.csv`, the figures and `tutorial.md`.

    Args:
        folder: folder of the report.
        name: name of the experiment.
        table: a row for each step and sampler.
        reference: the row of real held-out images, which no network was trained on.
        grids: the images of each figure, by file name.
        losses: see `loss_curves`.
        on_mnist: see `loss_curves`.
        warnings: a warning about the result of a step, by step.
    """
    # The reference row has no values here; Int64 keeps the other rows integers.
    rows = pd.concat([table, reference]).astype({"parameters": "Int64", "network_evaluations": "Int64"})
    write_csv(folder / "tutorial.csv", rows)
    for file, grid in grids.items():
        figures.image_grid(folder / file, grid.images, grid.rows, grid.columns, f"{name}: {title(file)}")
    write_csv(folder / "losses.csv", pd.concat(losses, names=["network"]).reset_index("network"))
    loss_curves(folder / "losses.png", losses, on_mnist)
    page = [
        f"# {name}",
        "Every step uses the same images, label sets and evaluator. Only networks that take a label have an accuracy. "
        "Coverage and Frechet distance compare the evaluator's features of generated images and of training images. "
        "The last row shows real images that no network was trained on. Intervals are 95 %.",
        *(f"> **Warning.** {escape_markdown(f'{step}: {warning}')}" for step, warning in warnings.items()),
        markdown(with_intervals(rows)),
        *(f"![{caption}]({file})\n\n*{caption}*" for file, caption in CAPTIONS.items()),
    ]
    write_text(folder / "tutorial.md", "\n\n".join(page) + "\n")
