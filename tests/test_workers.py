"""Workers: real processes, some of which are killed; every task has its result once."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from lab.errors import LabError
from lab.machine.devices import chosen_devices, dealt
from lab.machine.processes import LIVES, on_processes
from lab.machine.workers import packed
from tests.command import TINY, new_root, run
from tests.squares import Squares

TASKS = range(1, 9)


@pytest.mark.long
def test_every_task_has_its_result(tmp_path: Path) -> None:
    work = Squares(tmp_path)
    results = list(on_processes(work, TASKS, workers=3))
    assert {task: square for task, (square, _) in results} == {task: task**2 for task in TASKS}
    assert {worker for _, (_, worker) in results} <= {0, 1, 2}
    assert work.times() == dict.fromkeys(TASKS, 1)


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_worker_costs_its_task_alone(tmp_path: Path, workers: int, capsys: pytest.CaptureFixture[str]) -> None:
    work = Squares(tmp_path, killed_by=4)
    results = {task: square for task, (square, _) in on_processes(work, TASKS, workers=workers)}
    assert results == {task: task**2 for task in TASKS}
    assert work.times() == dict.fromkeys(TASKS, 1) | {4: 2}
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert line.startswith("worker ")
    assert line.endswith("died with number 4, which is run again")


@pytest.mark.long
def test_a_task_that_kills_every_worker_is_an_error(tmp_path: Path) -> None:
    work = Squares(tmp_path, killed_by=4, kills=99)
    with pytest.raises(LabError, match=r"^number 4: worker \d \(process \d+\) was the last of 3 that died with it"):
        list(on_processes(work, TASKS, workers=2))
    assert work.times()[4] == LIVES


@pytest.mark.long
@pytest.mark.parametrize(
    ("refused", "tasks", "reason"),
    [(5, TASKS, "this number is not allowed"), (-1, [0, 1], "ZeroDivisionError: integer")],
)
def test_an_error_names_the_task_and_the_worker(
    tmp_path: Path, refused: int, tasks: Sequence[int], reason: str
) -> None:
    number = max(refused, 0)
    with pytest.raises(LabError, match=rf"^number {number} failed on worker \d \(process \d+\): {reason}") as caught:
        list(on_processes(Squares(tmp_path, refused=refused), tasks, workers=2))
    assert "\n" not in str(caught.value)


@pytest.mark.long
def test_processes_end_with_the_caller(tmp_path: Path) -> None:
    results = on_processes(Squares(tmp_path), TASKS, workers=2)
    next(results)
    assert psutil.Process().children()
    results.close()  # type: ignore[attr-defined]  # it is a generator
    assert not [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


def test_a_parcel_that_was_damaged_is_refused() -> None:
    parcel = packed(b"content", "worker 7")
    assert parcel.opened("cell 3") == b"content"
    with pytest.raises(LabError, match="^cell 3 was damaged on its way from worker 7; run the same command again$"):
        replace(parcel, content=b"c0ntent").opened("cell 3")


@pytest.mark.parametrize(("name", "expected"), [("auto", [0, 1, 2, 0, 1]), ("cuda:1", [1] * 5), ("cuda", [0] * 5)])
def test_workers_take_gpus_in_turn(name: str, expected: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    devices = chosen_devices(name)
    assert [dealt(devices, worker).index for worker in range(5)] == expected


def test_a_cpu_is_shared_by_all_workers() -> None:
    assert [dealt(chosen_devices("cpu"), worker) for worker in range(2)] == [torch.device("cpu")] * 2


def test_a_cluster_without_its_extra_is_refused_before_anything_is_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert run(new_root(tmp_path), "digits", *TINY, "--sweep.cluster", "tcp://127.0.0.1:9") == 2
    assert "error: --sweep.cluster needs the extra [cluster]: pip install" in capsys.readouterr().err
    assert not (tmp_path / "checkpoints").exists()
