"""The tutorial's table and page: what every step from a corrupted image to guided diffusion buys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from evaluator.reporting import figures
from evaluator.reporting.canvas import saved_figure
from evaluator.tables import escape_markdown, markdown, with_intervals, write_csv, write_text

CAPTIONS = {
    "corruption.png": "Corrupted images, the amount of noise growing from left to right, and what the two networks of "
    "the corruption baseline take the clean image for.",
    "five_steps.png": "The corruption baseline in five steps: what the network is given, and what it takes for the "
    "clean image, of which each step mixes in one more share.",
    "losses.png": "Mean squared error of the predicted clean image, of pixels from 0 to 1, against images seen.",
    "denoising_strip.png": "DDPM by hand: ten moments from noise to image.",
    "samples.png": "Samples of every step, a class a column; steps without a condition ignore it.",
}


@dataclass(frozen=True)
class Grid:
    """Images with names for their rows and columns.

    Args:
        images: (rows, columns, C, H, W), 8 bits.
        rows: a name each.
        columns: a name each.
    """

    images: np.ndarray
    rows: Sequence[str]
    columns: Sequence[str]


MNIST_IMAGES = 60_000


def loss_curves(path: Path, losses: Mapping[str, pd.DataFrame], on_mnist: Mapping[str, Mapping[int, float]]) -> None:
    """Save the losses of several trainings against images seen.

    Args:
        path: of the PNG file.
        losses: the columns "images", "loss" and "mean_loss", by name of the training.
        on_mnist: mean loss of a tutorial's epoch over MNIST by its number, by name of the training; may be empty.
    """
    with saved_figure(path, height=3.2) as figure:
        axis = figure.subplots()
        for place, (name, rows) in enumerate(losses.items()):
            colour = figures.COLOURS[place]
            axis.plot(rows["images"], rows["loss"], color=colour, linewidth=1.3, label=name)
            if told := on_mnist.get(name):
                axis.plot(
                    rows["images"], rows["mean_loss"], color=colour, linewidth=1, linestyle=":", label="mean so far"
                )
                axis.hlines(
                    list(told.values()),
                    [(epoch - 1) * MNIST_IMAGES for epoch in told],
                    [epoch * MNIST_IMAGES for epoch in told],
                    color=colour,
                    linewidth=3,
                    alpha=0.4,
                    label=f"{name} in the tutorials, mean of an epoch over MNIST",
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
        folder: of the report.
        name: of the experiment.
        table: a row for each step and sampler.
        reference: the row of real held-out images, which no network has seen.
        grids: the images of each figure, by the file's name.
        losses: the columns "images", "loss" and "mean_loss", by name of the training.
        on_mnist: see `loss_curves`.
        warnings: what the reader should know before believing a step, by the step.
    """
    # Whole numbers stay whole beside a row that has none.
    rows = pd.concat([table, reference]).astype({"parameters": "Int64", "network_evaluations": "Int64"})
    write_csv(folder / "tutorial.csv", rows)
    for file, grid in grids.items():
        figures.image_grid(folder / file, grid.images, grid.rows, grid.columns, f"{name}: {title(file)}")
    write_csv(folder / "losses.csv", pd.concat(losses, names=["network"]).reset_index("network"))
    loss_curves(folder / "losses.png", losses, on_mnist)
    page = [
        f"# {name}",
        "Every step has the same images, label sets and evaluator. Accuracy is given for networks with a condition. "
        "Coverage and Frechet distance are taken in the evaluator's features, against the images that "
        "were trained on; the last row is what real images reach that no network has seen. Intervals are 95 %.",
        *(f"> **Warning.** {escape_markdown(f'{step}: {warning}')}" for step, warning in warnings.items()),
        markdown(with_intervals(rows)),
        *(f"![{caption}]({file})\n\n*{caption}*" for file, caption in CAPTIONS.items()),
    ]
    write_text(folder / "tutorial.md", "\n\n".join(page) + "\n")
