"""Sweep cells: what one is, what it holds once it has been run, and the file that keeps it.

Nothing here samples; `lab/sweep/run.py` does.
"""

import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lab.configuration.diffusion import SamplerConfig
from lab.data.labels import LabelSet
from lab.errors import LabError
from lab.machine.files import whole_file
from lab.types import ClassLogits, PixelImages

FORMAT = 1
"""Raise it when what a cell's file holds changes."""


@dataclass(frozen=True)
class SweepCell:
    """One cell of the sweep: all that decides its images and what the evaluator says of them.

    Args:
        checkpoint: name of the checkpoint, without its ending.
        epoch: of the checkpoint.
        step: of the checkpoint.
        checkpoint_digest: of the checkpoint file's content.
        evaluator_digest: of the evaluator file's content.
        label_set: name of the label-set file, without its ending.
        label_sets: what is asked for, one image each.
        guidance_method: one of `lab.guidance.METHODS`.
        guidance_settings: what that method uses besides the weight; autoguidance names its weaker checkpoint in
            "weak_checkpoint", and that file's digest in "weak_digest".
        guidance_weight: w.
        sampler: the sampler and its steps.
        precision: of the network's arithmetic.
        seeds: images for each label set; image j of n label sets is seed j div n's image of label set j mod n.
    """

    checkpoint: str
    epoch: int
    step: int
    checkpoint_digest: str
    evaluator_digest: str
    label_set: str
    label_sets: tuple[LabelSet, ...]
    guidance_method: str
    guidance_settings: dict[str, Any]
    guidance_weight: float
    sampler: SamplerConfig
    precision: str
    seeds: int

    @cached_property
    def key(self) -> str:
        """A file name that is readable and different for every different cell."""
        identity = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]
        return f"{self.checkpoint}-{self.label_set}-w{self.guidance_weight:g}-{self.guidance_method}-{identity}"

    @property
    def sampling(self) -> "SweepCell":
        """What decides how images are sampled, and not what is asked of them; cells of one sampling share batches."""
        if self.guidance_method == "composed":
            return self  # its network evaluations depend on what is asked, and are told for each cell
        return replace(self, label_set="", label_sets=())

    @property
    def asked(self) -> list[LabelSet]:
        """The label set of every image, seed after seed."""
        return list(self.label_sets) * self.seeds

    @property
    def noise_seeds(self) -> list[tuple[int, ...]]:
        """What decides every image's noise: the label-set file's name, the seed, and the label set's place in the file.

        No two files share noise, or one that ranks and one that has no say in the ranking would share images. All
        checkpoints, weights and samplers do.
        """
        return noise_seeds(self.label_set, self.seeds, len(self.label_sets))


def noise_seeds(label_set: str, seeds: int, label_sets: int) -> list[tuple[int, ...]]:
    """Return (file, seed, place) for every image of a label-set file of this name, seed after seed."""
    file = zlib.crc32(label_set.encode())
    return [(file, seed, place) for seed in range(seeds) for place in range(label_sets)]


@dataclass(frozen=True)
class CellResult:
    """What a finished cell holds.

    Args:
        cell: the cell.
        pixels: its images as 8-bit pixels, (N, C, H, W).
        logits: what the evaluator said of them, (N, K).
        network_evaluations: images put through the network for each image made; a mean where images differ in it.
        seconds: spent sampling and judging; of a batch with others' images, this cell's share.
        warm_up_seconds: spent compiling the network, once for all cells of a checkpoint; 0 where it was not compiled.
        device: where.
    """

    cell: SweepCell
    pixels: PixelImages
    logits: ClassLogits
    network_evaluations: float
    seconds: float
    warm_up_seconds: float
    device: str


def save_result(folder: Path, result: CellResult) -> None:
    """Write a finished cell's file, whole or not at all.

    Raises:
        LabError: the file cannot be written.
    """
    columns = ("network_evaluations", "seconds", "warm_up_seconds", "device")
    told: dict[str, Any] = {key: getattr(result, key) for key in columns}
    told |= {"format": FORMAT, "cell": asdict(result.cell)}
    with whole_file(folder / f"{result.cell.key}.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file, pixels=result.pixels.numpy(), logits=result.logits.numpy(), told=np.array(json.dumps(told))
        )


def load_result(folder: Path, cell: SweepCell) -> CellResult | None:
    """Return a cell's result from its file, or None where it has not been run."""
    path = folder / f"{cell.key}.npz"
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            told = _told(arrays["told"])
            pixels, logits = torch.from_numpy(arrays["pixels"]), torch.from_numpy(arrays["logits"])
        of_cell = told.pop("cell") == json.loads(json.dumps(asdict(cell)))
        if not of_cell or not len(pixels) == len(logits) == len(cell.asked):
            raise ValueError("it is another cell's")
        return CellResult(cell=cell, pixels=pixels, logits=logits, **told)
    except Exception as error:  # whatever a damaged archive makes zipfile, numpy or json raise
        raise LabError(
            f"{path}: this sweep cell is damaged or of another version ({error!s:.80}); delete it, and it is run again"
        ) from None


def earlier_results(folder: Path, cells: Sequence[SweepCell]) -> tuple[list[CellResult], list[Path]]:
    """Return the finished cells beside these, of the same checkpoints and evaluator, but of other settings.

    A label-set file whose content has changed since is another file of the same name; its cells are not returned.

    Args:
        folder: where cells are kept.
        cells: those of this sweep.

    Returns:
        The results, and the files that cannot be read: damaged ones, and those of another version of the lab. This
        sweep does not need them, so they do not stop it.
    """
    ours = {cell.key for cell in cells}
    checkpoints = {(cell.checkpoint, cell.checkpoint_digest) for cell in cells}
    label_sets = {cell.label_set: cell.label_sets for cell in cells}
    results, unreadable = [], []
    for path in sorted(folder.glob("*.npz")):
        if path.stem in ours:
            continue
        try:
            cell = _cell_of(path)
            same_file = label_sets.get(cell.label_set, cell.label_sets) == cell.label_sets
            same_judge = cell.evaluator_digest == cells[0].evaluator_digest
            if (cell.checkpoint, cell.checkpoint_digest) in checkpoints and same_file and same_judge:
                results.append(load_result(folder, cell))
        except LabError:
            unreadable.append(path)
    return [result for result in results if result is not None], unreadable


def _cell_of(path: Path) -> SweepCell:
    """Return the cell that a file says it is of."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = _told(arrays["told"])["cell"]
        found["label_sets"] = tuple(map(tuple, found["label_sets"]))
        found["sampler"] = SamplerConfig(**found["sampler"])
        return SweepCell(**found)
    except Exception as error:  # whatever a damaged archive makes zipfile, numpy or json raise
        raise LabError(
            f"{path}: this sweep cell is damaged or of another version ({error!s:.80}); delete it, and it is run again"
        ) from None


def _told(text: np.ndarray) -> dict[str, Any]:
    """Return what a cell's file tells beside its images, but for its format number, which must be this lab's."""
    told: dict[str, Any] = json.loads(str(text))
    if (found := told.pop("format", None)) != FORMAT:
        raise ValueError(f"it is of format {found}, and this lab reads format {FORMAT}")
    return told
