"""Sweep cells: the definition of a cell, its result, and the file that stores it.

`lab/sweep/run.py` samples the images.
"""

import hashlib
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from io import BytesIO
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
"""Increase it when the content of a cell's file changes. A new setting with a default needs no increase."""


@dataclass(frozen=True, kw_only=True)
class SweepCell:
    """One cell of the sweep: everything that determines its images and the evaluator's logits.

    Args:
        checkpoint: name of the checkpoint, without the file extension.
        epoch: epoch of the checkpoint.
        step: training step of the checkpoint.
        checkpoint_digest: digest of the checkpoint file.
        evaluator_digest: digest of the evaluator file.
        label_set_file: name of the label-set file, without the file extension.
        label_sets: the label sets of the file.
        method_name: name of the guidance method in `lab.guidance.methods.METHODS`.
        method: settings of the guidance method.
        guidance_weight: w.
        sampler: settings of the sampler.
        precision: arithmetic of the network, "float32" or "bfloat16".
        seeds: number of images for each label set. With n label sets, image j has seed j div n and label set j mod n.
        weaker_checkpoint: name of the checkpoint that the method guides away from, or "" if it needs none.
        weaker_digest: digest of the weaker checkpoint's file, or "".
        guide_digest: digest of the file of the classifier that guides, or "" if none does.
        ema_length: sigma_rel of the checkpoint, if it was rebuilt from power-function EMAs.
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
    guide_digest: str = ""
    ema_length: float | None = None

    @cached_property
    def key(self) -> str:
        """The file name of the cell, without the extension: readable, ASCII and unique.

        Settings at their defaults do not affect it, so a setting that is added later changes no cell's name.
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
    def guided_by_judge(self) -> bool:
        """Whether the classifier that guides is the evaluator that judges, so that its accuracy says nothing."""
        return self.guide_digest != "" and self.guide_digest == self.evaluator_digest

    @property
    def sampling(self) -> "SweepCell":
        """The cell without its label sets. Cells with the same `sampling` share batches."""
        if self.method.facts.cost_depends_on_label_sets:
            return self  # each cell counts its own cost
        return replace(self, label_set_file="", label_sets=())

    @property
    def asked(self) -> list[LabelSet]:
        """The label set of every image, ordered by seed."""
        return list(self.label_sets) * self.seeds

    @property
    def noise_seeds(self) -> list[tuple[int, ...]]:
        """The seeds of every image's noise: the label-set file's name, the seed, and the label set's place in the file.

        All checkpoints, weights and samplers share the noise of a file. Different files have different noise, so that
        the file that ranks shares no images with the others.
        """
        return noise_seeds(self.label_set_file, self.seeds, len(self.label_sets))


def read_cell(stored: dict[str, Any]) -> SweepCell:
    """Return the cell that a file stores as primitives. A missing setting gets its default.

    Raises:
        LabError: this version of the lab does not have a method, sampler or setting of the cell.
    """
    method = METHODS.get(str(stored["method_name"]))
    if method is None:
        raise LabError(f"no guidance method {stored['method_name']!r}; the methods are {', '.join(METHODS)}")
    parts = {
        "label_sets": tuple(map(tuple, stored["label_sets"])),
        "method": read_settings(method, stored["method"]),
        "sampler": read_kind(SAMPLERS, stored["sampler"], "sampler"),
    }
    return SweepCell(**(stored | parts))


def noise_seeds(label_set_file: str, seeds: int, label_sets: int) -> list[tuple[int, ...]]:
    """Return (file, seed, place) for every image of the label-set file with this name, ordered by seed."""
    return [each for seed in range(seeds) for each in noise_seeds_of(label_set_file, seed, label_sets)]


def noise_seeds_of(label_set_file: str, seed: int, label_sets: int) -> list[tuple[int, ...]]:
    """Return (file, seed, place) for every image of the label-set file with this name and one seed."""
    file = zlib.crc32(label_set_file.encode(errors="surrogateescape"))
    return [(file, seed, place) for place in range(label_sets)]


@dataclass(frozen=True, kw_only=True)
class CellRecord:
    """What is known of a finished cell beside its images.

    Args:
        cell: the cell.
        logits: the evaluator's logits, (N, K).
        network_evaluations: network evaluations per image; the mean if images differ.
        seconds: time spent sampling and judging; the cell's share if cells share batches.
        warm_up_seconds: time spent compiling the network, once for all cells of a checkpoint; 0 without compilation.
        device: the device that computed it.
        effective_guidance_scale: see `lab.guidance.effective_scale`; None if it is undefined, or if the cell was run
            before the lab measured it.
        guide_evaluations: evaluations per image of the classifier that guides, each with its gradient if it takes one.
    """

    cell: SweepCell
    logits: ClassLogits
    network_evaluations: float
    seconds: float
    warm_up_seconds: float
    device: str
    effective_guidance_scale: float | None = None
    guide_evaluations: float = 0


@dataclass(frozen=True, kw_only=True)
class CellResult(CellRecord):
    """The result of a cell that has just been run.

    Args:
        pixels: its images as 8-bit pixels, (N, C, H, W).
    """

    pixels: PixelImages


@dataclass(frozen=True, kw_only=True)
class StoredResult(CellRecord):
    """The result of a cell in its file. The images are read when they are needed, so that a sweep may have any number.

    Args:
        path: the file.
    """

    path: Path

    @property
    def pixels(self) -> PixelImages:
        """The cell's images as 8-bit pixels, (N, C, H, W).

        Raises:
            LabError: the file is missing or damaged.
        """
        try:
            with np.load(self.path, allow_pickle=False) as arrays:
                return torch.from_numpy(arrays["pixels"])
        except Exception as error:  # zipfile and numpy raise many types of error for a damaged archive
            raise _unreadable(self.path, str(error)) from None


def file_content(result: CellResult) -> bytes:
    """Return the content of a finished cell's file."""
    columns = (
        "network_evaluations", "seconds", "warm_up_seconds", "device", "effective_guidance_scale", "guide_evaluations"
    )  # fmt: skip
    record: dict[str, Any] = {key: getattr(result, key) for key in columns}
    record |= {"format": FORMAT, "cell": asdict(result.cell)}
    file = BytesIO()
    np.savez_compressed(
        file, pixels=result.pixels.numpy(), logits=result.logits.numpy(), told=np.array(json.dumps(record))
    )
    return file.getvalue()


def write_file(folder: Path, cell: SweepCell, content: bytes) -> None:
    """Write the content of a finished cell's file, as `file_content` returns it, atomically.

    Raises:
        LabError: the file cannot be written.
    """
    with whole_file(folder / f"{cell.key}.npz") as temporary:
        temporary.write_bytes(content)


def save_result(folder: Path, result: CellResult) -> StoredResult:
    """Write the file of a finished cell atomically, and return the result as the file has it.

    Raises:
        LabError: the file cannot be written.
    """
    write_file(folder, result.cell, file_content(result))
    record = {field.name: getattr(result, field.name) for field in fields(CellRecord)}
    return StoredResult(path=folder / f"{result.cell.key}.npz", **record)


def load_result(folder: Path, cell: SweepCell) -> StoredResult | None:
    """Return a cell's result from its file, or None if the cell has not been run."""
    path = folder / f"{cell.key}.npz"
    if not path.exists():
        return None
    result = _load(path)
    if result.cell != cell:
        raise _unreadable(path, "it belongs to another cell")
    return result


def _load(path: Path) -> StoredResult:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            record: dict[str, Any] = json.loads(str(arrays["told"]))
            require_format(path, record.pop("format", None), FORMAT)
            # Read for their checksum, so that damage is reported before a report begins.
            images, logits = len(arrays["pixels"]), torch.from_numpy(arrays["logits"])
        cell = read_cell(record.pop("cell"))
        if not images == len(logits) == len(cell.asked):
            raise ValueError("the number of images does not match the label sets")
        return StoredResult(cell=cell, logits=logits, path=path, **record)
    except Exception as error:  # zipfile, numpy and json raise many types of error for a damaged archive
        raise _unreadable(path, str(error)) from None


def _unreadable(path: Path, reason: str) -> LabError:
    reason = reason.removeprefix(f"{path}: ")
    return LabError(
        f"{path}: this sweep cell is damaged or from another version ({reason:.90}); delete it to run it again"
    )


def earlier_results(folder: Path, cells: Sequence[SweepCell]) -> tuple[list[StoredResult], list[Path]]:
    """Return the other finished cells in a folder, with the same checkpoints and evaluator but other settings.

    Cells of a label-set file whose content has changed are not returned.

    Args:
        folder: the folder of the cells' files.
        cells: the cells of this sweep.

    Returns:
        The results, and the files that cannot be read, which are damaged or from another version of the lab. This
        sweep does not need those files, so they are not an error.
    """
    ours = {cell.key for cell in cells}
    checkpoints = {(cell.checkpoint, cell.checkpoint_digest) for cell in cells}
    label_sets = {cell.label_set_file: cell.label_sets for cell in cells}
    results, unreadable = [], []
    for path in sorted(folder.glob("*.npz")):
        if path.stem in ours:
            continue
        try:
            result = _load(path)
        except LabError:
            unreadable.append(path)
            continue
        cell = result.cell
        same_file = label_sets.get(cell.label_set_file, cell.label_sets) == cell.label_sets
        same_judge = cell.evaluator_digest == cells[0].evaluator_digest
        if (cell.checkpoint, cell.checkpoint_digest) in checkpoints and same_file and same_judge:
            results.append(result)
    return results, unreadable
