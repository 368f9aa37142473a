"""The sweep: every checkpoint x label-set file x guidance weight, each an independent cell.

A cell samples one image for every label set and every seed, hands them to the evaluator it was given, and writes one
file of its own, atomically. A cell whose file is there is never run again. Cells share nothing, so any engine may run
them, in any order. All weights start from the same noise, so their rows are paired.
"""

import hashlib
import json
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lab.checkpoints import Checkpoint, load_checkpoint
from lab.configuration import SamplerConfig
from lab.datasets import to_pixels
from lab.errors import LabError
from lab.files import whole_file
from lab.guidance import EvaluationCounter, Guided, guided
from lab.labels import ClassVocabulary, LabelSet
from lab.sampling import STEPPERS, NoiseSource, sample, timestep_grid, trajectory
from lab.schedules import noise_schedule
from lab.types import ClassLogits, Images, NoisePredictor, PixelImages

Judge = Callable[[PixelImages], ClassLogits]


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
    seeds: int

    @property
    def key(self) -> str:
        """A file name that is readable and different for every different cell."""
        identity = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]
        return f"{self.checkpoint}-{self.label_set}-w{self.guidance_weight:g}-{self.guidance_method}-{identity}"

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
        network_evaluations: images put through the network for each image made.
        seconds: spent sampling and judging.
        device: where.
        precision: of the network's arithmetic.
    """

    cell: SweepCell
    pixels: PixelImages
    logits: ClassLogits
    network_evaluations: int
    seconds: float
    device: str
    precision: str


def load_result(folder: Path, cell: SweepCell) -> CellResult | None:
    """Return a cell's result from its file, or None where it has not been run."""
    path = folder / f"{cell.key}.npz"
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            told = json.loads(str(arrays["told"]))
            pixels, logits = torch.from_numpy(arrays["pixels"]), torch.from_numpy(arrays["logits"])
        of_cell = told.pop("cell") == json.loads(json.dumps(asdict(cell)))
        if not of_cell or not len(pixels) == len(logits) == len(cell.asked):
            raise ValueError("it is another cell's")
        return CellResult(cell=cell, pixels=pixels, logits=logits, **told)
    except Exception as error:  # whatever a damaged archive makes zipfile, numpy or json raise
        raise LabError(f"{path}: this sweep cell is damaged ({error!s:.80}); delete it, and it is run again") from None


def run_cell(
    cell: SweepCell,
    checkpoint: Checkpoint,
    network: NoisePredictor,
    weak: NoisePredictor | None,
    device: torch.device,
    precision: str,
    judge: Judge,
    batch_size: int,
    folder: Path,
) -> CellResult:
    """Sample a cell's images, have them judged, write its file and return what it holds.

    Args:
        cell: the cell.
        checkpoint: the checkpoint it names.
        network: that checkpoint's noise predictor.
        weak: a weaker one, where the method asks for it.
        device: the one it is on.
        precision: what it is computed in.
        judge: maps 8-bit images to class logits.
        batch_size: images sampled together.
        folder: where cells are kept.

    Raises:
        LabError: an image is not finite, or the file cannot be written.
    """
    conditions = checkpoint.vocabulary.conditions(cell.asked).to(device)
    counter, weak_counter = EvaluationCounter(network), EvaluationCounter(weak or network)
    predictor = _guided(cell, checkpoint, counter, weak_counter)
    schedule = noise_schedule(checkpoint.schedule)
    started = time.perf_counter()
    batches: list[PixelImages] = []
    for begin in range(0, len(conditions), batch_size):
        part = slice(begin, begin + batch_size)
        noise = NoiseSource(cell.noise_seeds[part], checkpoint.image_shape)
        images = sample(predictor, schedule, cell.sampler, conditions[part], noise)
        _require_finite(images, cell)
        batches.append(to_pixels(images).cpu())
    pixels = torch.cat(batches)
    logits = judge(pixels)
    result = CellResult(
        cell=cell,
        pixels=pixels,
        logits=logits.cpu(),
        network_evaluations=(counter.evaluations + weak_counter.evaluations) // len(pixels),
        seconds=max(time.perf_counter() - started, 1e-9),
        device=str(device),
        precision=precision,
    )
    told = {key: getattr(result, key) for key in ("network_evaluations", "seconds", "device", "precision")}
    told["cell"] = asdict(cell)
    with whole_file(folder / f"{cell.key}.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, pixels=pixels.numpy(), logits=result.logits.numpy(), told=np.array(json.dumps(told)))
    return result


def _guided(cell: SweepCell, checkpoint: Checkpoint, network: NoisePredictor, weak: NoisePredictor) -> NoisePredictor:
    """Return a cell's guidance around the network."""
    schedule = noise_schedule(checkpoint.schedule)
    grid = timestep_grid(schedule.timesteps, cell.sampler.sampling_steps)
    to = Guided(network, weak, schedule, grid, checkpoint.vocabulary)
    return guided(cell.guidance_method, cell.guidance_weight, cell.guidance_settings, to)


def _weak(
    cell: SweepCell, checkpoints: Path, vocabulary: ClassVocabulary, device: torch.device, precision: str
) -> NoisePredictor | None:
    """Return the weaker noise predictor that a cell's method asks for, if it does."""
    if (name := cell.guidance_settings.get("weak_checkpoint")) is None:
        return None
    return load_checkpoint(checkpoints / f"{name}.pt", vocabulary).noise_predictor(device, precision)


def _require_finite(images: Images, cell: SweepCell) -> None:
    if not bool(images.isfinite().all()):
        raise LabError(
            f"{cell.checkpoint} at w = {cell.guidance_weight:g} sampled images that are not finite; "
            f"keep --sampler.clamp, or take a smaller weight"
        )


def run_sweep(
    cells: Iterable[SweepCell],
    checkpoints: Path,
    vocabulary: ClassVocabulary,
    judge: Judge,
    batch_size: int,
    device: torch.device,
    precision: str,
    folder: Path,
) -> Iterator[CellResult]:
    """Yield every cell's result in order, running those that have none yet.

    Args:
        cells: the cells; those of one checkpoint in a row share one loaded network.
        checkpoints: folder of the checkpoints the cells name.
        vocabulary: the one that the label sets are of, and that the checkpoints must be of.
        judge, batch_size, folder: see `run_cell`.
        device: where to compute.
        precision: what the networks are computed in.
    """
    loaded: tuple[str, Checkpoint, NoisePredictor] | None = None
    for cell in cells:
        result = load_result(folder, cell)
        if result is None:
            if loaded is None or loaded[0] != cell.checkpoint:
                checkpoint = load_checkpoint(checkpoints / f"{cell.checkpoint}.pt", vocabulary)
                if (checkpoint.epoch, checkpoint.step) != (cell.epoch, cell.step):
                    path = checkpoints / f"{cell.checkpoint}.pt"
                    raise LabError(f"{path} is of epoch {checkpoint.epoch}, not {cell.epoch}; restore it")
                loaded = cell.checkpoint, checkpoint, checkpoint.noise_predictor(device, precision)
            weak = _weak(cell, checkpoints, vocabulary, device, precision)
            result = run_cell(cell, loaded[1], loaded[2], weak, device, precision, judge, batch_size, folder)
        yield result


def earlier_results(folder: Path, cells: Sequence[SweepCell]) -> list[CellResult]:
    """Return the finished cells beside these: of the same checkpoints and evaluator, but of other settings.

    A label-set file whose content has changed since is another file of the same name, and its cells are left out.

    Args:
        folder: where cells are kept.
        cells: those of this sweep.
    """
    ours = {cell.key for cell in cells}
    checkpoints = {(cell.checkpoint, cell.checkpoint_digest) for cell in cells}
    label_sets = {cell.label_set: cell.label_sets for cell in cells}
    results = []
    for path in sorted(folder.glob("*.npz")):
        if path.stem in ours:
            continue
        cell = _cell_of(path)
        same_file = label_sets.get(cell.label_set, cell.label_sets) == cell.label_sets
        same_judge = cell.evaluator_digest == cells[0].evaluator_digest
        if (cell.checkpoint, cell.checkpoint_digest) in checkpoints and same_file and same_judge:
            results.append(load_result(folder, cell))
    return [result for result in results if result is not None]


def _cell_of(path: Path) -> SweepCell:
    """Return the cell that a file says it is of."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = json.loads(str(arrays["told"]))["cell"]
        found["label_sets"] = tuple(map(tuple, found["label_sets"]))
        found["sampler"] = SamplerConfig(**found["sampler"])
        return SweepCell(**found)
    except Exception as error:  # whatever a damaged archive makes zipfile, numpy or json raise
        raise LabError(f"{path}: this sweep cell is damaged ({error!s:.80}); delete it, and it is run again") from None


@torch.inference_mode()
def denoising_strip(
    checkpoint: Checkpoint, cell: SweepCell, count: int, device: torch.device, precision: str, checkpoints: Path
) -> list[PixelImages]:
    """Return the first images of a cell at every moment from starting noise to finished image.

    Args:
        checkpoint: the one that the cell names.
        cell: the cell.
        count: how many of its images.
        device: where to compute.
        precision: what the network is computed in.
        checkpoints: folder of the checkpoints, where autoguidance finds its weaker one.

    Returns:
        sampling_steps + 1 batches of `count` images.
    """
    weak = _weak(cell, checkpoints, checkpoint.vocabulary, device, precision)
    schedule, network = noise_schedule(checkpoint.schedule), checkpoint.noise_predictor(device, precision)
    moments = trajectory(
        _guided(cell, checkpoint, network, weak or network),
        schedule,
        STEPPERS[cell.sampler.kind](cell.sampler),
        timestep_grid(schedule.timesteps, cell.sampler.sampling_steps),
        checkpoint.vocabulary.conditions(cell.asked[:count]).to(device),
        NoiseSource(cell.noise_seeds[:count], checkpoint.image_shape),
        cell.sampler.clamp,
    )
    return [to_pixels(images).cpu() for images in moments]
