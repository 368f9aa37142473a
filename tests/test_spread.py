"""A sweep that is spread over workers has the bits of one process."""

import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch

from lab.data.labels import ClassVocabulary
from lab.machine.files import digest
from lab.machine.processes import on_processes
from lab.sweep.cells import StoredResult, SweepCell
from lab.sweep.run import Bench, Judge
from lab.sweep.spread import SweepWork, spread_sweep
from lab.types import ImageClassifier
from tests.command import TIMING, TINY, command, new_root, run, table
from tests.test_sweep import VOCABULARY, cells, engine, folder, judge, number_of_threads, swept

__all__ = ["folder"]


def load_classifiers(
    files: Sequence[Path], vocabulary: ClassVocabulary, device: torch.device
) -> tuple[Judge, Mapping[str, ImageClassifier]]:
    assert [file.read_text() for file in files] == ["judge"]
    return judge, {}


def load_number_of_threads(
    files: Sequence[Path], vocabulary: ClassVocabulary, device: torch.device
) -> tuple[Judge, Mapping[str, ImageClassifier]]:
    return number_of_threads, {}


def work(folder: Path) -> SweepWork:
    file = folder / "judge.txt"
    file.write_text("judge")
    threads = torch.get_num_threads()
    return SweepWork(folder, VOCABULARY, (file,), (digest(file),), load_classifiers, "cpu", False, threads)


def spread(folder: Path, of: list[SweepCell], kept_in: str, batch_size: int = 0) -> dict[str, StoredResult]:
    bench = Bench(folder, VOCABULARY, engine(batch_size))
    compute = partial(on_processes, workers=2)
    results = list(spread_sweep(of, work(folder), bench, folder / kept_in, compute))
    assert len({result.cell.key for result in results}) == len(results)
    return {result.cell.key: result for result in results}


@pytest.mark.long
@pytest.mark.parametrize("batch_size", [0, 3])
def test_two_workers_give_the_bits_of_one_process(folder: Path, batch_size: int) -> None:
    whole = swept(folder, cells(), batch_size=batch_size)
    # Two cells are finished already, of which one shares batches with an unfinished one.
    for place in (0, 2, 3):
        (path := folder / "spread" / f"{whole[place].cell.key}.npz").parent.mkdir(exist_ok=True)
        path.write_bytes((folder / "cells" / path.name).read_bytes())
    kept = {path: path.stat().st_mtime_ns for path in (folder / "spread").iterdir()}
    by_key = spread(folder, cells(), "spread", batch_size)
    assert set(by_key) == {cell.key for cell in cells()}
    for before in whole:
        after = by_key[before.cell.key]
        assert torch.equal(before.pixels, after.pixels)
        assert torch.equal(before.logits, after.logits)
        assert before.effective_guidance_scale == after.effective_guidance_scale
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


@pytest.mark.long
def test_workers_have_the_number_of_threads_of_the_sweep(folder: Path) -> None:
    threads = torch.get_num_threads() + 1
    of_threads = replace(work(folder), threads=threads, load_classifiers=load_number_of_threads)
    bench = Bench(folder, VOCABULARY, engine())
    compute = partial(on_processes, workers=2)
    for result in spread_sweep(cells(), of_threads, bench, folder / "spread", compute):
        assert set(result.logits.flatten().tolist()) == {threads}


@pytest.mark.slow
def test_a_worker_of_the_command_is_killed(tmp_path: Path) -> None:
    options = [*TINY, *shlex.split("--sampler.sampling-steps 40 --sweep.seeds 5 --sweep.threads 1")]
    whole, killed = new_root(tmp_path / "whole"), new_root(tmp_path / "killed")
    assert run(whole, "digits", *options) == 0
    process = subprocess.Popen(
        command("digits", *options, "--sweep.workers", "2", "--root", str(killed)), stderr=subprocess.PIPE, text=True
    )
    stored = killed / "checkpoints" / "digits" / "cells"
    while process.poll() is None and len(list(stored.glob("*.npz"))) < 2:
        time.sleep(0.01)
    finished = {path: path.stat().st_mtime_ns for path in stored.glob("*.npz")}
    workers = [each for each in psutil.Process(process.pid).children() if "spawn_main" in " ".join(each.cmdline())]
    assert len(workers) == 2
    workers[0].send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert f"(process {workers[0].pid}) died with sweep cell " in errors
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    pd.testing.assert_frame_equal(table(killed).drop(columns=TIMING), table(whole).drop(columns=TIMING))
    for path in sorted((whole / "checkpoints" / "digits" / "cells").glob("*.npz")):
        with np.load(path) as expected, np.load(stored / path.name) as found:
            for name in ("pixels", "logits"):
                assert np.array_equal(expected[name], found[name]), (path.name, name)
