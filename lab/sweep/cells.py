"""Sweep cells: what one is, what it holds once it has been run, and the file that keeps it.

Nothing here samples; `lab/sweep/run.py` does.
"""

import hashlib
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lab.configuration.diffusion import SamplerConfig
from lab.configuration.kinds import changes_from_default, read_kind, read_settings
from lab.data.labels import LabelSet
from lab.diffusion.samplers import SAMPLERS
from lab.errors import LabError
from lab.guidance.method import GuidanceMethod
from lab.guidance.methods import METHODS, NamedMethod
from lab.machine.files import require_format, whole_file
from lab.types import ClassLogits, PixelImages

FORMAT = 2
"""Raise it when what a cell's file holds changes; a setting with a default may be added without."""


@dataclass(frozen=True, kw_only=True)
class SweepCell:
    """One cell of the sweep: all that decides its images and the evaluator's logits of them.

    Args:
        checkpoint: name of the checkpoint, without its ending.
        epoch: of the checkpoint.
        step: of the checkpoint.
        checkpoint_digest: of the checkpoint file's content.
        evaluator_digest: of the evaluator file's content.
        label_set_file: name of the label-set file, without its ending.
        label_sets: the file's label sets, one image each.
        method_name: the name of the guidance method in `lab.guidance.methods.METHODS`.
        method: its settings.
        guidance_weight: w.
        sampler: the sampler and its settings.
        precision: of the network's arithmetic.
        seeds: images for each label set; image j of n label sets is seed j div n's image of label set j mod n.
        weaker_checkpoint: name of the checkpoint that the method guides away from, if it needs one.
        weaker_digest: of that file's content.
    """

    checkpoint: str
    epoch: int
    step: int
    checkpoint_digest: str
    evaluator_digest: str
    label_set_file: str
    label_sets: tuple[LabelSet, ...]
    method_name: str
    method: GuidanceMethod
    guidance_weight: float
    sampler: SamplerConfig
    precision: str
    seeds: int
    weaker_checkpoint: str = ""
    weaker_digest: str = ""

    @cached_property
    def key(self) -> str:
        """A file name that is readable, ASCII, and different for every different cell.

        Settings at their default have no part in it, so that a setting added later changes no cell's name.
        """
        identity = changes_from_default(self)
        identity |= {"method": changes_from_default(self.method), "sampler": changes_from_default(self.sampler)}
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
        label_sets = re.sub(r'[^ -~]|[\\/:*?"<>|]', "_", self.label_set_file)
        return f"{self.checkpoint}-{label_sets}-w{self.guidance_weight:g}-{self.method_name}-{digest}"

    @property
    def named_method(self) -> NamedMethod:
        """The guidance method with its name."""
        return NamedMethod(self.method_name, self.method)

    @property
    def sampling(self) -> "SweepCell":
        """What decides how images are sampled, apart from the label sets; cells of one sampling share batches."""
        if self.method.facts.cost_depends_on_label_sets:
            return self  # the cost is counted for each cell
        return replace(self, label_set_file="", label_sets=())

    @property
    def asked(self) -> list[LabelSet]:
        """The label set of every image, seed after seed."""
        return list(self.label_sets) * self.seeds

    @property
    def noise_seeds(self) -> list[tuple[int, ...]]:
        """What decides every image's noise: the label-set file's name, the seed, and the label set's place in the file.

        No two files share noise: otherwise a file that has no say in the ranking would share images with the one that
        ranks. All checkpoints, weights and samplers share it.
        """
        return noise_seeds(self.label_set_file, self.seeds, len(self.label_sets))


def read_cell(stored: dict[str, Any]) -> SweepCell:
    """Return the cell that a file holds as primitives; a setting that the file lacks has its default.

    Raises:
        LabError: a setting that this version of the lab does not have.
    """
    method = METHODS.get(str(stored["method_name"]))
    if method is None:
        raise LabError(f"no guidance method {stored['method_name']!r}; allowed are {', '.join(METHODS)}")
    parts = {
        "label_sets": tuple(map(tuple, stored["label_sets"])),
        "method": read_settings(method, stored["method"]),
        "sampler": read_kind(SAMPLERS, stored["sampler"], "sampler"),
    }
    return SweepCell(**(stored | parts))


def noise_seeds(label_set_file: str, seeds: int, label_sets: int) -> list[tuple[int, ...]]:
    """Return (file, seed, place) for every image of a label-set file of this name, seed after seed."""
    return [each for seed in range(seeds) for each in noise_seeds_of(label_set_file, seed, label_sets)]


def noise_seeds_of(label_set_file: str, seed: int, label_sets: int) -> list[tuple[int, ...]]:
    """Return (file, seed, place) for every image of one seed of a label-set file of this name."""
    file = zlib.crc32(label_set_file.encode(errors="surrogateescape"))
    return [(file, seed, place) for place in range(label_sets)]


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
    """Return a cell's result from its file, or None if it has not been run."""
    path = folder / f"{cell.key}.npz"
    if not path.exists():
        return None
    found = _load(path)
    if found.cell != cell:
        raise _unreadable(path, "it is another cell's")
    return found


def _load(path: Path) -> CellResult:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            told: dict[str, Any] = json.loads(str(arrays["told"]))
            require_format(path, told.pop("format", None), FORMAT)
            pixels, logits = torch.from_numpy(arrays["pixels"]), torch.from_numpy(arrays["logits"])
        cell = read_cell(told.pop("cell"))
        if not len(pixels) == len(logits) == len(cell.asked):
            raise ValueError("its images are not as many as its label sets")
        return CellResult(cell=cell, pixels=pixels, logits=logits, **told)
    except Exception as error:  # a damaged archive makes zipfile, numpy and json raise nearly anything
        raise _unreadable(path, str(error)) from None


def _unreadable(path: Path, why: str) -> LabError:
    why = why.removeprefix(f"{path}: ")
    return LabError(
        f"{path}: this sweep cell is damaged or of another version ({why:.90}); delete it, and it is run again"
    )


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
    label_sets = {cell.label_set_file: cell.label_sets for cell in cells}
    results, unreadable = [], []
    for path in sorted(folder.glob("*.npz")):
        if path.stem in ours:
            continue
        try:
            found = _load(path)
        except LabError:
            unreadable.append(path)
            continue
        cell = found.cell
        same_file = label_sets.get(cell.label_set_file, cell.label_sets) == cell.label_sets
        same_judge = cell.evaluator_digest == cells[0].evaluator_digest
        if (cell.checkpoint, cell.checkpoint_digest) in checkpoints and same_file and same_judge:
            results.append(found)
    return results, unreadable
