"""The report of an unconditional experiment: its losses, its samples, and the page that explains them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from evaluator.reporting import figures
from evaluator.reporting.denoising import SHEETS, STRIP_FILE, strip_caption, write_denoising
from evaluator.reporting.picture_folders import write_pictures
from evaluator.tables import escape_markdown, markdown, write_csv, write_text
from lab.configuration.pictures import PicturesConfig
from lab.machine.files import remove_all, whole_folder
from lab.types import PixelImage, PixelImages, PixelMoments

LOSSES = "The loss of every optimizer step, and its natural logarithm."
FIRST_LOSSES = "Loss of the first step after a number of epochs (`first_losses.csv`)"
MEAN_LOSSES = "Mean loss over the steps of an epoch (`mean_losses.csv`)"


@dataclass(frozen=True)
class BroughtBack:
    """An image that was noised and denoised again.

    Args:
        source: what the image is.
        image: (C, H, W), 8 bits.
        timesteps: those that it was noised to.
        rows: (timesteps, 2, C, H, W): the noised image and the one that was brought back.
    """

    source: str
    image: PixelImage
    timesteps: Sequence[int]
    rows: PixelMoments


@dataclass(frozen=True)
class UnconditionalReport:
    """What a report is made of.

    Args:
        name: of the experiment.
        trained_on: the number of training images.
        parameters: of the denoiser.
        sampler: its kind and steps in words.
        training: the rows of `training.csv`.
        losses: the loss of every step.
        first_loss_every: epochs between the losses of first steps; 0 for none.
        mean_loss_every: epochs between the means of an epoch; 0 for none.
        samples: the finished images.
        moments: the images after each sampling step that is shown.
        pictures: how the moments are shown.
        brought_back: an image that was noised and brought back, or None.
        warning: what the reader should know of the noise schedule, or None.
    """

    name: str
    trained_on: int
    parameters: int
    sampler: str
    training: pd.DataFrame
    losses: Sequence[float]
    first_loss_every: int
    mean_loss_every: int
    samples: PixelImages
    moments: Mapping[int, PixelImages]
    pictures: PicturesConfig
    brought_back: BroughtBack | None
    warning: str | None

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by the names of their files."""
        steps = self.training["step"].tolist()
        losses = pd.DataFrame({"step": range(1, len(self.losses) + 1), "loss": self.losses})
        tables = {"losses": losses, "training": self.training}
        if self.first_loss_every:
            tables["first_losses"] = first_losses(self.losses, steps, self.first_loss_every)
        if self.mean_loss_every:
            tables["mean_losses"] = mean_losses(self.losses, steps, self.mean_loss_every)
        return tables


def first_losses(losses: Sequence[float], steps: Sequence[int], every: int) -> pd.DataFrame:
    """Return the loss of the first step after 0, `every`, 2 `every`, ... epochs.

    Args:
        losses: the loss of every step.
        steps: the number of each epoch's last step.
        every: epochs.
    """
    first = [0, *steps[:-1]]
    done = range(0, len(steps), every)
    rows = [(epochs, first[epochs] + 1, losses[first[epochs]]) for epochs in done]
    return pd.DataFrame(rows, columns=["epochs_done", "step", "loss"])


def mean_losses(losses: Sequence[float], steps: Sequence[int], every: int) -> pd.DataFrame:
    """Return the mean loss over the steps of epochs `every`, 2 `every`, ...; see `first_losses`."""
    first = [0, *steps[:-1]]
    epochs = range(every, len(steps) + 1, every)
    means = [float(np.mean(losses[first[epoch - 1] : steps[epoch - 1]])) for epoch in epochs]
    return pd.DataFrame({"epoch": epochs, "mean_loss": means})


def write_unconditional(folder: Path, report: UnconditionalReport) -> None:
    """Write everything in a report's folder but `config.json`."""
    # An earlier report of the same training may have them.
    others = {"first_losses.csv", "mean_losses.csv", "brought_back.png"} - {f"{name}.csv" for name in report.tables}
    remove_all(folder / name for name in others)
    for name, table in report.tables.items():
        write_csv(folder / f"{name}.csv", table)
    figures.step_losses(folder / "loss.png", report.losses, f"{report.name}: training loss")
    figures.image_sheet(folder / "samples.png", report.samples.numpy(), f"{report.name}: samples")
    names = [f"{number}.png" for number in range(len(report.samples))]
    write_denoising(folder, report.moments, report.pictures, names, report.name)
    if (brought := report.brought_back) is not None:
        original = brought.image.expand(len(brought.timesteps), -1, -1, -1)
        figures.image_grid(
            folder / "brought_back.png",
            np.stack([original.numpy(), *brought.rows.numpy().swapaxes(0, 1)]),
            ["original", "noised", "brought back"],
            [f"t = {timestep}" for timestep in brought.timesteps],
            f"{report.name}: noised to t and brought back",
        )
    # The folder is replaced, so that no image of another run stays.
    with whole_folder(folder / "images") as images:
        write_pictures(images, report.samples)
    write_text(folder / "report.md", _page(report))


def _captions(report: UnconditionalReport) -> dict[str, str]:
    """Return the caption of every figure, as Markdown."""
    brought = report.brought_back
    captions = {
        "loss.png": LOSSES,
        "samples.png": f"The {len(report.samples)} samples ({escape_markdown(report.sampler)}).",
        STRIP_FILE: f"{strip_caption(report.pictures)}: x after the sampling steps named above the columns.",
    }
    if brought is not None:
        captions["brought_back.png"] = (
            f"An image ({escape_markdown(brought.source)}), noised to x_t at several t, and what the sampler makes of "
            f"each x_t. The larger t, the less of the image is left to find."
        )
    return captions


def _page(report: UnconditionalReport) -> str:
    tables, last = report.tables, report.training.iloc[-1]
    epochs = f"{last['epoch']} epoch{'s' if last['epoch'] > 1 else ''}"
    parts = [
        f"# {escape_markdown(report.name)}",
        *([] if report.warning is None else [f"> **Warning.** {escape_markdown(report.warning)}"]),
        f"An unconditional denoiser of {report.parameters:,} parameters, trained on {report.trained_on:,} images for "
        f"{epochs} ({last['step']:,} optimizer steps). The mean loss over the images of the last epoch is "
        f"{last['loss']:.4f}.",
        "## Figures",
        *(f"![{caption}]({file})\n\n*{caption}*" for file, caption in _captions(report).items()),
    ]
    for name, heading in (("first_losses", FIRST_LOSSES), ("mean_losses", MEAN_LOSSES)):
        if name in tables and len(tables[name]):
            parts += [f"## {heading}", markdown(tables[name])]
    sheets = (
        f" The folder `{SHEETS}/` has the first {report.pictures.grid} images after each sampling step that is shown."
        if report.pictures.grid
        else ""
    )
    parts += [
        "## Files",
        f"{', '.join(f'`{name}.csv`' for name in tables)}, `config.json` (every setting, the seed and the versions), "
        f"and the folder `images/` (the samples as single images).{sheets}",
    ]
    return "\n\n".join(parts) + "\n"
