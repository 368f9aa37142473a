"""A Dask cluster of real processes: one is killed within a task, one joins late, and none shares the tasks' folder."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import torch

from lab.errors import LabError
from lab.machine.cluster import on_cluster
from lab.sweep.run import Bench
from lab.sweep.spread import spread_sweep
from tests.command import PROJECT
from tests.squares import Squares
from tests.test_spread import work
from tests.test_sweep import VOCABULARY, cells, engine, folder, swept

__all__ = ["folder"]
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("distributed")
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `dask scheduler` or `dask worker` in a folder of its own, and ends it after the test."""
    with ExitStack() as running:

        def started(*arguments: str) -> "subprocess.Popen[bytes]":
            environment = os.environ | {"PYTHONPATH": str(PROJECT)}
            process = running.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "dask", *arguments, "--no-dashboard"],
                    env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )
            )  # fmt: skip
            running.callback(process.kill)
            return process

        yield started


@pytest.fixture
def address(start: Start, tmp_path: Path) -> str:
    file = tmp_path / "scheduler.json"
    start("scheduler", "--port", "0", "--host", "127.0.0.1", "--scheduler-file", str(file))
    for _ in range(600):
        if file.exists() and (text := file.read_text()):
            return str(json.loads(text)["address"])
        time.sleep(0.2)
    raise TimeoutError


def worker(start: Start, address: str, name: str) -> "subprocess.Popen[bytes]":
    return start("worker", address, "--nthreads", "1", "--no-nanny", "--name", name)


def test_a_killed_worker_costs_its_task_and_a_late_one_helps(start: Start, address: str, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (file := tmp_path / "file.txt").write_text("content")
    squares = Squares(tmp_path / "notes", killed_by=4, file=file, seconds=0.5)
    for name in ("first-0", "second-1", "third-2"):
        worker(start, address, name)
    tasks = range(1, 41)
    results: dict[int, tuple[int, int]] = {}
    for task, result in on_cluster(squares, tasks, address=address):
        if not results:
            worker(start, address, "late-7")
        results[task] = result
    assert {task: square for task, (square, _) in results.items()} == {task: task**2 for task in tasks}
    numbers = {number for _, number in results.values()}
    assert numbers == {0, 1, 2, 7}
    times = squares.times()
    # What the killed worker had finished, the client has; it lost one task within it, and at most one behind that.
    assert times[4] == 2
    assert sum(times.values()) <= len(tasks) + 2


def test_an_error_names_the_task_and_the_worker(start: Start, address: str, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    worker(start, address, "only")
    refusing = Squares(tmp_path / "notes", refused=2)
    with pytest.raises(LabError, match=r"^number 2 failed on worker only \(tcp://\S+\): this number is not allowed"):
        list(on_cluster(refusing, [1, 2], address=address))


def test_a_sweep_on_a_cluster_has_the_bits_of_one_process(start: Start, address: str, folder: Path) -> None:
    whole = swept(folder, cells(), batch_size=3)
    for name in ("first-0", "second-1"):
        worker(start, address, name)
    compute = partial(on_cluster, address=address)
    bench = Bench(folder, VOCABULARY, engine(3))
    by_key = {
        result.cell.key: result for result in spread_sweep(cells(), work(folder), bench, folder / "spread", compute)
    }
    for before in whole:
        after = by_key[before.cell.key]
        assert torch.equal(before.pixels, after.pixels)
        assert torch.equal(before.logits, after.logits)


def test_no_scheduler_is_one_line() -> None:
    with pytest.raises(LabError, match="^tcp://127.0.0.1:9: no Dask scheduler answers") as caught:
        next(on_cluster(Squares(Path()), [1], address="tcp://127.0.0.1:9"))
    assert "\n" not in str(caught.value)
