"""The tutorial's table and page: what every step from corrupted images to guided diffusion gains."""

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
    "basic_40_steps.png": "64 samples of the corruption baseline with BasicUNet in 40 steps.",
    "unet2d_50_steps.png": "32 samples of the corruption baseline with UNet2DModel in 50 steps. Step i = 0, 1, ... "
    "mixes in 1 / (50 - i + 1) of the prediction, as in the source, so some noise stays.",
    "losses.png": "Mean squared error of every optimizer step for pixels from 0 to 1. The bars are the means of an "
    "epoch that the sources print, drawn over as many steps as their epochs have.",
    "noising.png": "Images noised to eight timesteps of the linear schedule with T = 1,000, clipped and not, and what "
    "an untrained network predicts of them.",
    "denoising_strip.png": "DDPM by hand: ten moments from noise to image.",
    "samples.png": "Samples of every step. Each column shows one class if the step's network takes a label.",
}
LARGEST_LOSS = 0.1
"""Upper end of the axis of losses, as in the sources."""


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


@dataclass(frozen=True)
class PrintedLosses:
    """The mean loss of each epoch that a source prints for a network.

    Args:
        steps: optimizer steps of an epoch in the source.
        means: one mean for each epoch.
    """

    steps: int
    means: Sequence[float]

    def beside(self, losses: Sequence[float]) -> pd.DataFrame:
        """Return a row for each epoch of the source, with this run's mean over the same optimizer steps.

        Epochs that this run does not reach have no mean of its own.
        """
        rows = []
        for epoch, printed in enumerate(self.means):
            own = losses[epoch * self.steps : (epoch + 1) * self.steps]
            whole = len(own) == self.steps
            rows.append(
                {
                    "from_step": epoch * self.steps + 1,
                    "to_step": (epoch + 1) * self.steps,
                    "loss": float(np.mean(own)) if whole else None,
                    "printed": printed,
                }
            )
        return pd.DataFrame(rows)


@dataclass(frozen=True)
class TutorialReport:
    """What the page is made of.

    Args:
        name: name of the tutorial.
        training: the number of optimizer steps of every training, and of images in each, in words.
        table: a row for each step and guidance weight.
        reference: the row of real held-out images, which no network was trained on.
        grids: the images of each figure with named rows and columns, by file name.
        sheets: the images of each figure without names, (N, C, H, W), by file name.
        losses: the loss of every optimizer step for pixels from 0 to 1, by network.
        printed: what the sources print of these losses; empty if their images are others.
        warnings: a warning about the result of a step, by step.
    """

    name: str
    training: str
    table: pd.DataFrame
    reference: pd.DataFrame
    grids: Mapping[str, Grid]
    sheets: Mapping[str, np.ndarray]
    losses: Mapping[str, Sequence[float]]
    printed: Mapping[str, PrintedLosses]
    warnings: Mapping[str, str]

    @property
    def printed_losses(self) -> pd.DataFrame:
        """The rows of `printed_losses.csv`."""
        rows = {name: printed.beside(self.losses[name]) for name, printed in self.printed.items()}
        return pd.concat(rows, names=["network"]).reset_index("network")


def loss_curves(path: Path, losses: Mapping[str, Sequence[float]], printed: Mapping[str, PrintedLosses]) -> None:
    """Save the loss of every optimizer step of several trainings, on a linear axis up to `LARGEST_LOSS`."""
    with saved_figure(path, height=3.2) as figure:
        axis = figure.subplots()
        for place, (name, values) in enumerate(losses.items()):
            colour = figures.COLOURS[place]
            axis.plot(range(1, len(values) + 1), values, color=colour, linewidth=0.6, alpha=0.7, label=name)
            if name in printed:
                starts = np.arange(len(printed[name].means)) * printed[name].steps
                axis.hlines(
                    printed[name].means,
                    starts + 1,
                    starts + printed[name].steps,
                    color=colour,
                    linewidth=3,
                    label=f"{name} in the source, mean of an epoch",
                )
        axis.set_ylim(0, LARGEST_LOSS)
        axis.set_xlabel("optimizer step")
        axis.set_ylabel("mean squared error")
        axis.grid(alpha=0.25)
        axis.legend(fontsize=8)


def title(file: str) -> str:
    """Return a figure's file name as words."""
    return file.removesuffix(".png").replace("_", " ")


def write_tutorial(folder: Path, report: TutorialReport) -> None:
    """Write `tutorial.csv`, `losses.csv`, `printed_losses.csv`, the figures and `tutorial.md`."""
    # The reference row has no values here; Int64 keeps the other rows integers.
    rows = pd.concat([report.table, report.reference]).astype({"parameters": "Int64", "network_evaluations": "Int64"})
    write_csv(folder / "tutorial.csv", rows)
    for file, grid in report.grids.items():
        figures.image_grid(folder / file, grid.images, grid.rows, grid.columns, f"{report.name}: {title(file)}")
    for file, images in report.sheets.items():
        figures.image_sheet(folder / file, images, f"{report.name}: {title(file)}")
    steps = {
        name: pd.DataFrame({"step": range(1, len(values) + 1), "loss": values})
        for name, values in report.losses.items()
    }
    write_csv(folder / "losses.csv", pd.concat(steps, names=["network"]).reset_index("network"))
    loss_curves(folder / "losses.png", report.losses, report.printed)
    page = [
        f"# {escape_markdown(report.name)}",
        f"Every step uses the same images, label sets and evaluator, and every training takes {report.training}. The "
        "learning rate is constant, except in this lab's own training. Only networks that take a label have an "
        "accuracy. Coverage and Frechet distance compare the evaluator's features of generated images and of training "
        "images. The last row shows real images that no network was trained on. Intervals are 95 %.",
        *(f"> **Warning.** {escape_markdown(f'{step}: {warning}')}" for step, warning in report.warnings.items()),
        markdown(with_intervals(rows)),
        *(f"![{caption}]({file})\n\n*{caption}*" for file, caption in CAPTIONS.items()),
    ]
    if report.printed:
        write_csv(folder / "printed_losses.csv", report.printed_losses)
        page += [
            "## Losses beside the sources'",
            "Mean loss over the same optimizer steps. The sources' steps are of 128 of MNIST's 60,000 images.",
            markdown(report.printed_losses),
        ]
    write_text(folder / "tutorial.md", "\n\n".join(page) + "\n")
