"""A sweep that is spread over workers: what each of them computes, and the files that come back.

A worker computes a pack of cells in the batches, and with the number of threads, that one process would use, so the
bits are the same. It returns the content of the cells' files; only the process that started the sweep writes them.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from lab.data.labels import ClassVocabulary
from lab.errors import LabError
from lab.machine.devices import chosen_devices, dealt
from lab.machine.workers import Engine as WorkerEngine
from lab.machine.workers import Worker
from lab.sweep.cells import StoredResult, SweepCell, file_content, load_result, write_file
from lab.sweep.run import Bench, Engine, Judge, Pack, packs
from lab.types import ImageClassifier

LoadClassifiers = Callable[[Sequence[Path], ClassVocabulary, torch.device], tuple[Judge, Mapping[str, ImageClassifier]]]
"""A function from the files of the classifiers to the judge, and to those that may guide, by name."""

_one_at_a_time = threading.Lock()
_benches: dict[tuple["SweepWork", str], Bench] = {}
"""The bench of the latest work in this process, with its loaded networks."""


@dataclass(frozen=True)
class SweepWork:
    """What the workers of a sweep have in common; called with a pack, it returns the files of its wanted cells.

    Args:
        checkpoints: the folder of the checkpoints.
        vocabulary: the vocabulary of the label sets.
        classifiers: the files of the judge, which is first, and of the classifier that guides, if there is one.
        digests: the digests of these files.
        load_classifiers: a function that can be pickled.
        device: name of the workers' device; see `lab.machine.devices.chosen_devices`.
        compiled: whether torch compiles the networks.
        threads: CPU threads of each worker. Another number may round differently.
        torch_version: the version of torch that the workers must have.
        weaker: the file of the weaker checkpoint; by default the one of the checkpoints that a cell names.
    """

    checkpoints: Path
    vocabulary: ClassVocabulary
    classifiers: tuple[Path, ...]
    digests: tuple[str, ...]
    load_classifiers: LoadClassifiers
    device: str
    compiled: bool
    threads: int
    torch_version: str = torch.__version__
    weaker: Path | None = None

    def files(self, pack: Pack) -> Sequence[Path]:
        """Return the classifiers and the checkpoints of a pack."""
        cell = pack.cells[0]
        files = [*self.classifiers, self.checkpoints / f"{cell.checkpoint}.pt"]
        if cell.weaker_checkpoint:
            files.append(self.weaker or self.checkpoints / f"{cell.weaker_checkpoint}.pt")
        return files

    def name(self, pack: Pack) -> str:
        """Return the key of the pack's first wanted cell, and the number of the others."""
        first, *others = (cell.key for cell in pack.cells if cell.key in pack.wanted)
        return f"sweep cell {first}{f' (and {len(others)} with it)' if others else ''}"

    def __call__(self, pack: Pack, worker: Worker) -> list[tuple[str, bytes]]:
        """Return the key and the file's content of each wanted cell of a pack."""
        if torch.__version__ != self.torch_version:
            raise LabError(f"it has torch {torch.__version__}, but the sweep needs {self.torch_version}; install that")
        with _one_at_a_time:  # a worker of a cluster may have several threads
            bench = self._bench(worker)
            return [(result.cell.key, file_content(result)) for result in bench.results(pack)]

    def _bench(self, worker: Worker) -> Bench:
        key = (self, worker.name)
        if key not in _benches:
            _benches.clear()
            device = dealt(chosen_devices(self.device), worker.number)
            files = [worker.local(file.parent) / file.name for file in self.classifiers]
            judge, guides = self.load_classifiers(files, self.vocabulary, device)
            engine = Engine(judge, device, self.compiled, classifiers=guides, threads=self.threads)
            weaker = None if self.weaker is None else worker.local(self.weaker.parent) / self.weaker.name
            _benches[key] = Bench(worker.local(self.checkpoints), self.vocabulary, engine, weaker)
        return _benches[key]


def spread_sweep(
    cells: Iterable[SweepCell], work: SweepWork, bench: Bench, folder: Path, compute: WorkerEngine
) -> Iterator[StoredResult]:
    """Yield the result of every cell as it is completed, and have workers run the cells that have no result yet.

    Args:
        cells: the cells, as for `run_sweep`.
        work: what the workers compute.
        bench: chooses the size of batches on this machine, so that it does not depend on the worker.
        folder: the folder of the cells' files.
        compute: the engine.

    Raises:
        LabError: a cell failed (the message names it and its worker), or a file is damaged or cannot be written.
    """
    waiting: list[Pack] = []
    sizes: dict[tuple[str, str], int] = {}
    for pack, finished in packs(cells, folder):
        yield from finished.values()
        if pack.wanted:
            cell = pack.cells[0]
            key = (cell.checkpoint_digest, cell.precision)
            if key not in sizes:
                sizes[key] = bench.engine.batch_size or bench.loaded(cell).batch_size
            waiting.append(replace(pack, batch_size=sizes[key]))
    for pack, files in compute(work, waiting):
        by_key = {cell.key: cell for cell in pack.cells}
        for key_of_cell, content in files:
            write_file(folder, by_key[key_of_cell], content)
            result = load_result(folder, by_key[key_of_cell])
            assert result is not None
            yield result
