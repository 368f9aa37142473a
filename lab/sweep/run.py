"""The sweep: one independent cell for every checkpoint, label-set file, guidance method and weight.

A cell samples one image for every label set and seed, has the evaluator judge them, and writes its own file
atomically. A cell with a file is not run again. Cells are independent, so they may run on any engine, in any order. All
weights start from the same noise, so their rows are paired.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import torch

from lab.configuration.networks import student_weights
from lab.data.labelled_images import to_pixels
from lab.data.labels import ClassVocabulary
from lab.diffusion.denoising import Denoising, timestep_grid
from lab.diffusion.noise_source import NoiseSource, StepRandomness
from lab.diffusion.samplers import moments, sample
from lab.diffusion.schedules import noise_schedule
from lab.errors import LabError
from lab.guidance.effective_scale import EffectiveScale, effective_scale
from lab.guidance.evaluation_counter import ClassifierCounter, EvaluationCounter
from lab.guidance.method import Unguided
from lab.machine.computation import Computation
from lab.machine.memory import blank_inputs, images_that_fit
from lab.machine.threads import cpu_threads
from lab.sweep.cells import CellResult, StoredResult, SweepCell, load_result, save_result
from lab.training.checkpoints import Checkpoint, load_checkpoint
from lab.types import ClassLogits, ImageClassifier, Images, NoisePredictor, PixelImages

Judge = Callable[[PixelImages], ClassLogits]


@dataclass(frozen=True)
class Engine:
    """Where and how cells are computed. It affects the speed, not the images.

    Args:
        judge: maps 8-bit images to class logits.
        device: the device of the networks.
        compiled: whether torch compiles the networks.
        batch_size: images sampled together; 0 means as many as fit into memory.
        classifiers: those that may guide, by name, on the same device.
        threads: CPU threads; 0 means torch's number. Another number may round differently.
    """

    judge: Judge
    device: torch.device
    compiled: bool = False
    batch_size: int = 0
    classifiers: Mapping[str, ImageClassifier] = field(default_factory=dict)
    threads: int = 0


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint that is ready for sampling.

    Args:
        checkpoint: the checkpoint.
        network: its noise predictor, on the engine's device.
        batch_size: images sampled together.
        warm_up_seconds: time spent compiling the network; 0 without compilation.
    """

    checkpoint: Checkpoint
    network: NoisePredictor
    batch_size: int
    warm_up_seconds: float


def load_for_cell(cell: SweepCell, checkpoints: Path, vocabulary: ClassVocabulary, engine: Engine) -> LoadedCheckpoint:
    """Load the checkpoint of a cell, choose the batch size, and compile the network if the engine requires it.

    Raises:
        LabError: the checkpoint is damaged, or its epoch or step differs from the cell's.
    """
    path = checkpoints / f"{cell.checkpoint}.pt"
    checkpoint = load_checkpoint(path, vocabulary)
    if (checkpoint.epoch, checkpoint.step) != (cell.epoch, cell.step):
        raise LabError(f"{path} is from epoch {checkpoint.epoch}, but must be from {cell.epoch}; restore it")
    shape, classes = checkpoint.image_shape, len(vocabulary)
    network = checkpoint.noise_predictor(Computation(engine.device, cell.precision))
    batch_size = engine.batch_size or images_that_fit(network, shape, classes, engine.device)
    seconds = 0.0
    if engine.compiled:
        network = checkpoint.noise_predictor(Computation(engine.device, cell.precision, compiled=True))
        started = time.perf_counter()
        with torch.inference_mode():
            # The two batch sizes of guidance: both halves, and one half alone. A student takes w as one more column.
            columns = classes + (student_weights(checkpoint.denoiser) is not None)
            for images in (2 * batch_size, batch_size):
                network(*blank_inputs(images, shape, columns, engine.device))
        seconds = time.perf_counter() - started
    return LoadedCheckpoint(checkpoint, network, batch_size, seconds)


def run_cells(
    cells: Sequence[SweepCell],
    wanted: Collection[str],
    loaded: LoadedCheckpoint,
    weak: NoisePredictor | None,
    engine: Engine,
) -> list[CellResult]:
    """Sample the images of cells, judge them and return the results.

    The images that share a batch affect each other's rounding. The batches do not depend on `wanted`, so a resumed
    sweep gives the same bits as an uninterrupted one. Batches without an image of a wanted cell are skipped.

    Args:
        cells: cells that differ only in their label-set file, so that their images may share batches.
        wanted: keys of the cells that have not been run yet.
        loaded: the checkpoint of the cells.
        weak: the weaker noise predictor, if the method needs one.
        engine: where and how to compute.

    Raises:
        LabError: an image is not finite.
    """
    checkpoint, size = loaded.checkpoint, loaded.batch_size
    conditions = checkpoint.vocabulary.conditions([each for cell in cells for each in cell.asked]).to(engine.device)
    noise_seeds = [seeds for cell in cells for seeds in cell.noise_seeds]
    of_wanted = [cell.key in wanted for cell in cells for _ in cell.asked]
    counter, weak_counter = EvaluationCounter(loaded.network), EvaluationCounter(weak or loaded.network)
    meter = EffectiveScale()
    networks = meter.observed(counter), meter.foreign(weak_counter)
    guides = {name: ClassifierCounter(classifier) for name, classifier in engine.classifiers.items()}
    classifiers = {name: meter.classifying(guide) for name, guide in guides.items()}
    schedule = noise_schedule(checkpoint.schedule)
    started, sampled = time.perf_counter(), 0
    pixels = torch.zeros(len(conditions), *checkpoint.image_shape, dtype=torch.uint8)
    projections = torch.zeros(len(conditions), 2, dtype=torch.float64)
    for part in (slice(begin, begin + size) for begin in range(0, len(conditions), size)):
        if any(of_wanted[part]):
            noise = NoiseSource(noise_seeds[part], checkpoint.image_shape, schedule.noise)
            guided = _guided(cells[0], checkpoint, *networks, classifiers, noise_seeds[part])
            images = sample(meter.measured(guided), schedule, cells[0].sampler, conditions[part], noise)
            _require_finite(images, cells[0])
            pixels[part], projections[part] = to_pixels(images).cpu(), meter.taken()
            sampled += len(images)
    sizes = [len(cell.asked) for cell in cells]
    by_cell = zip(cells, torch.split(pixels, sizes), torch.split(projections, sizes), strict=True)
    finished = [(cell, of_cell, effective_scale(sums)) for cell, of_cell, sums in by_cell if cell.key in wanted]
    logits = [engine.judge(of_cell).cpu() for _, of_cell, _ in finished]
    evaluations = _each(counter.evaluations + weak_counter.evaluations, sampled)
    guide_evaluations = _each(sum(guide.evaluations for guide in guides.values()), sampled)
    seconds = max(time.perf_counter() - started, 1e-9)
    return [
        CellResult(
            cell=cell,
            pixels=of_cell,
            logits=logits_of_cell,
            network_evaluations=evaluations,
            seconds=seconds * len(of_cell) / sum(map(len, logits)),
            warm_up_seconds=loaded.warm_up_seconds,
            device=str(engine.device),
            effective_guidance_scale=scale,
            guide_evaluations=guide_evaluations,
        )
        for (cell, of_cell, scale), logits_of_cell in zip(finished, logits, strict=True)
    ]


def _each(total: int, images: int) -> float:
    """Return how many come to each image, a whole number if they divide evenly."""
    return total / images if total % images else total // images


def _guided(
    cell: SweepCell,
    checkpoint: Checkpoint,
    network: NoisePredictor,
    weak: NoisePredictor,
    classifiers: Mapping[str, ImageClassifier],
    noise_seeds: Sequence[tuple[int, ...]],
) -> NoisePredictor:
    """Return the network with the guidance of a cell, for the batch of images with these seeds."""
    schedule = noise_schedule(checkpoint.schedule)
    grid = timestep_grid(schedule.timesteps, cell.sampler.sampling_steps)
    randomness, prediction = StepRandomness(noise_seeds), checkpoint.denoiser.prediction
    unguided = Unguided(network, weak, schedule, grid, checkpoint.vocabulary, randomness, prediction, classifiers)
    return cell.method.guide(unguided, cell.guidance_weight)


def _weak(cell: SweepCell, path: Path, vocabulary: ClassVocabulary, device: torch.device) -> NoisePredictor | None:
    """Return the weaker noise predictor of a file if the cell's method needs one, else None."""
    if not cell.weaker_checkpoint:
        return None
    weaker = load_checkpoint(path, vocabulary)
    return weaker.noise_predictor(Computation(device, cell.precision))


def _require_finite(images: Images, cell: SweepCell) -> None:
    if not bool(images.isfinite().all()):
        raise LabError(
            f"{cell.checkpoint} at w = {cell.guidance_weight:g} sampled images that are not finite; "
            f"use --sampler.clamp or a smaller weight"
        )


@dataclass(frozen=True)
class Pack:
    """Cells that share batches, the least that is computed together.

    Args:
        cells: cells that differ only in their label-set file.
        wanted: keys of the cells that have not been run yet.
        batch_size: images sampled together; 0 means the engine's.
    """

    cells: tuple[SweepCell, ...]
    wanted: frozenset[str]
    batch_size: int = 0


def packs(cells: Iterable[SweepCell], folder: Path) -> Iterator[tuple[Pack, dict[str, StoredResult]]]:
    """Yield cells in packs, each with the results that its other cells have already, by key.

    Args:
        cells: the cells. Consecutive cells with the same `sampling` make a pack.
        folder: the folder of the cells' files.
    """
    for _, alike in groupby(cells, key=lambda cell: cell.sampling):
        packed = tuple(alike)
        stored = {cell.key: load_result(folder, cell) for cell in packed}
        finished = {key: result for key, result in stored.items() if result is not None}
        yield Pack(packed, frozenset(stored) - frozenset(finished)), finished


class Bench:
    """Computes packs one after another. Consecutive packs of one checkpoint and precision share its loaded network.

    Args:
        checkpoints: the folder of the checkpoints.
        vocabulary: the vocabulary of the label sets; the checkpoints must have the same one.
        engine: where and how to compute.
        weaker: the file of the weaker checkpoint; by default the one of the checkpoints that a cell names.
    """

    def __init__(
        self, checkpoints: Path, vocabulary: ClassVocabulary, engine: Engine, weaker: Path | None = None
    ) -> None:
        self.checkpoints, self.vocabulary, self.engine, self.weaker = checkpoints, vocabulary, engine, weaker
        self._loaded: LoadedCheckpoint | None = None
        self._weak: NoisePredictor | None = None
        self._loaded_for: tuple[str | int, ...] = ()
        self._weak_for: tuple[str, ...] = ()

    def loaded(self, cell: SweepCell, batch_size: int = 0) -> LoadedCheckpoint:
        """Return the checkpoint of a cell, ready for batches of a size; 0 means the engine's."""
        key = (cell.checkpoint, cell.checkpoint_digest, cell.precision, batch_size)
        if self._loaded is None or self._loaded_for != key:
            engine = replace(self.engine, batch_size=batch_size or self.engine.batch_size)
            self._loaded = load_for_cell(cell, self.checkpoints, self.vocabulary, engine)
            self._loaded_for = key
        return self._loaded

    def results(self, pack: Pack) -> list[CellResult]:
        """Return the results of the wanted cells of a pack."""
        cell = pack.cells[0]
        with cpu_threads(self.engine.threads):
            loaded = self.loaded(cell, pack.batch_size)
            key = (cell.weaker_checkpoint, cell.weaker_digest, cell.precision)
            if self._weak_for != key:
                path = self.weaker or self.checkpoints / f"{cell.weaker_checkpoint}.pt"
                self._weak = _weak(cell, path, self.vocabulary, self.engine.device)
                self._weak_for = key
            return run_cells(pack.cells, pack.wanted, loaded, self._weak, self.engine)


def run_sweep(
    cells: Iterable[SweepCell],
    checkpoints: Path,
    vocabulary: ClassVocabulary,
    engine: Engine,
    folder: Path,
    weaker: Path | None = None,
) -> Iterator[StoredResult]:
    """Yield the result of every cell in order, and run the cells that have no result yet.

    Args:
        cells: the cells. Consecutive cells with the same checkpoint and precision share a loaded network; those with
            the same `sampling` share batches.
        checkpoints: the folder of the checkpoints.
        vocabulary: the vocabulary of the label sets; the checkpoints must have the same one.
        engine: where and how to compute.
        folder: the folder of the cells' files.
        weaker: the file of the weaker checkpoint; by default the one of the checkpoints that a cell names.

    Raises:
        LabError: a checkpoint or cell is damaged, an image is not finite, or a file cannot be written.
    """
    bench = Bench(checkpoints, vocabulary, engine, weaker)
    for pack, finished in packs(cells, folder):
        if pack.wanted:
            finished |= {result.cell.key: save_result(folder, result) for result in bench.results(pack)}
        yield from (finished[cell.key] for cell in pack.cells)


def denoising_strip(
    checkpoint: Checkpoint,
    cell: SweepCell,
    count: int,
    device: torch.device,
    checkpoints: Path,
    classifiers: Mapping[str, ImageClassifier] | None = None,
    weaker: Path | None = None,
) -> list[PixelImages]:
    """Return the first images of a cell at every moment from starting noise to finished image.

    Args:
        checkpoint: the checkpoint of the cell.
        cell: the cell.
        count: the number of images.
        device: the device to compute on.
        checkpoints: the folder of the checkpoints, which holds the weaker checkpoint of autoguidance.
        classifiers: those that may guide, by name, on the device; none if the cell's method needs none.
        weaker: the file of the weaker checkpoint, if it is not in that folder.

    Returns:
        sampling_steps + 1 batches of `count` images.
    """
    path = weaker or checkpoints / f"{cell.weaker_checkpoint}.pt"
    weak = _weak(cell, path, checkpoint.vocabulary, device)
    schedule, network = (
        noise_schedule(checkpoint.schedule),
        checkpoint.noise_predictor(Computation(device, cell.precision)),
    )
    conditions = checkpoint.vocabulary.conditions(cell.asked[:count]).to(device)
    noise = NoiseSource(cell.noise_seeds[:count], checkpoint.image_shape, schedule.noise)
    predictor = _guided(cell, checkpoint, network, weak or network, classifiers or {}, cell.noise_seeds[:count])
    denoising = Denoising(predictor, schedule, conditions, noise)
    with torch.inference_mode():
        return [to_pixels(images).cpu() for images in moments(cell.sampler, denoising)]
