"""Processes: an engine that computes tasks in several processes of this machine.

Each process has a pipe of its own, so one that is killed takes only its task with it. The task is given to another
process, and a new process takes the place of the old one.
"""

import multiprocessing
import os
import pickle
import signal
import sys
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, cast

from tqdm import tqdm

from lab.errors import LabError
from lab.machine.workers import Result, Task, Work, Worker, attempt, outcome_of

LIVES = 3
"""How many processes a task may lose before it is an error: it may be the task that kills them."""


@dataclass
class _Process:
    number: int
    process: BaseProcess
    pipe: Connection
    task: int | None = None

    def __str__(self) -> str:
        return f"worker {self.number} (process {self.process.pid})"

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def on_processes(work: Work[Task, Result], tasks: Sequence[Task], *, workers: int) -> Iterator[tuple[Task, Result]]:
    """Compute tasks in processes and yield each task with its result, in the order of completion.

    If the caller stops early, the processes are ended.

    Args:
        work: what to compute.
        tasks: the tasks.
        workers: number of processes, 1 or more.

    Raises:
        LabError: a task failed, or lost `LIVES` processes.
    """
    waiting, lost = deque(range(len(tasks))), Counter[int]()
    crew = [_started(work, number) for number in range(min(workers, len(tasks)))]
    try:
        while waiting or any(each.task is not None for each in crew):
            for each in crew:
                if each.task is None and waiting:
                    each.task = waiting.popleft()
                    _give(each, tasks[each.task])
            ready = set(wait([each.pipe for each in crew if each.task is not None]))
            for place, each in enumerate(crew):
                if each.pipe not in ready or each.task is None:
                    continue
                task, name = each.task, work.name(tasks[each.task])
                try:
                    parcel = pickle.loads(each.pipe.recv_bytes())
                except (EOFError, OSError):
                    each.end()
                    lost[task] += 1
                    if lost[task] == LIVES:
                        raise LabError(
                            f"{name}: {each} was the last of {LIVES} that died with it; "
                            f"the memory may be full: lower --sweep.workers or --sweep.batch-size"
                        ) from None
                    tqdm.write(f"{each} died with {name}, which is run again", file=sys.stderr)
                    waiting.appendleft(task)
                    crew[place] = _started(work, each.number)
                else:
                    each.task = None
                    yield tasks[task], cast(Result, outcome_of(parcel, name))
    finally:
        for each in crew:
            each.end()


def _started(work: Work[Task, Result], number: int) -> _Process:
    # A forked process would share torch's threads and CUDA, which do not survive it.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(work, number, theirs), daemon=True)
    process.start()
    # The only open end is now the process's own, so its death ends the pipe.
    theirs.close()
    return _Process(number, process, ours)


def _give(each: _Process, task: object) -> None:
    with suppress(OSError):  # it died; its pipe says so when it is read
        each.pipe.send_bytes(pickle.dumps(task))


def _serve(work: Work[Any, Any], number: int, pipe: Connection) -> None:
    """Compute the tasks that arrive until the pipe is closed."""
    # Ctrl-C reaches every process of a terminal; the one that has the tasks ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker = Worker(number, f"worker {number} (process {os.getpid()})", _same)
    try:
        while True:
            pipe.send_bytes(pickle.dumps(attempt(work, pickle.loads(pipe.recv_bytes()), worker)))
    except (EOFError, OSError):  # the process that has the tasks is gone
        return


def _same(folder: Path) -> Path:
    return folder
