"""Workers: who computes the tasks of a list, and how results and errors come back from them.

A piece of work is a picklable function of a task and a worker. An engine calls it for every task and yields each task
with its result, as they are completed; `processes` and `cluster` are the engines. A worker sends a result as bytes with
their SHA-256, so that a result that was damaged on its way is an error.
"""

import hashlib
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from lab.errors import LabError, lines_of

Task = TypeVar("Task")
TaskIn = TypeVar("TaskIn", contravariant=True)
Result = TypeVar("Result")
ResultOut = TypeVar("ResultOut", covariant=True)


@dataclass(frozen=True)
class Worker:
    """A process that computes tasks, as the work sees it.

    Args:
        number: its number on its machine, from 0; it decides the worker's device.
        name: how errors name it.
        local: maps a folder of the process that has the tasks to the worker's folder with the same files.
    """

    number: int
    name: str
    local: Callable[[Path], Path]


@runtime_checkable
class Work(Protocol[TaskIn, ResultOut]):
    """What workers compute. It can be pickled, as can its tasks and results."""

    def __call__(self, task: TaskIn, worker: Worker, /) -> ResultOut:
        """Return the result of a task."""
        ...

    def files(self, task: TaskIn, /) -> Sequence[Path]:
        """Return the files that a task reads. A worker reads them through `Worker.local`."""
        ...

    def name(self, task: TaskIn, /) -> str:
        """Return the name of a task for errors."""
        ...


@runtime_checkable
class Engine(Protocol):
    """Yields every task with its result, in the order of completion."""

    def __call__(self, work: Work[Task, Result], tasks: Sequence[Task], /) -> Iterator[tuple[Task, Result]]:
        """Compute the tasks. Raise LabError at the first that fails; the message names the task and the worker."""
        ...


@dataclass(frozen=True)
class Parcel:
    """Bytes with their digest.

    Args:
        content: the bytes.
        digest: their SHA-256, as 64 hexadecimal digits.
        sender: the name of the process that packed them.
    """

    content: bytes
    digest: str
    sender: str

    def opened(self, name: str) -> bytes:
        """Return the content.

        Args:
            name: what the content is, for the error.

        Raises:
            LabError: the content does not have the digest.
        """
        if hashlib.sha256(self.content).hexdigest() != self.digest:
            raise LabError(f"{name} was damaged on its way from {self.sender}; run the same command again")
        return self.content


def packed(content: bytes, sender: str) -> Parcel:
    """Return bytes with their digest."""
    return Parcel(content, hashlib.sha256(content).hexdigest(), sender)


def attempt(work: Work[Task, Result], task: Task, worker: Worker) -> Parcel:
    """Return the result of a task, or the message of its error, as a worker sends it."""
    try:
        outcome: tuple[bool, object] = True, work(task, worker)
    except LabError as error:
        outcome = False, str(error)
    except Exception as error:  # it belongs to one task, and the process that has the tasks reports it
        outcome = False, f"{type(error).__name__}: {lines_of(error)[0]:.200}"
    return packed(pickle.dumps(outcome), worker.name)


def outcome_of(parcel: Parcel, name: str) -> object:
    """Return the result in a worker's parcel.

    Args:
        parcel: what `attempt` returned.
        name: the name of the task.

    Raises:
        LabError: the task failed, or the parcel is damaged.
    """
    succeeded, outcome = pickle.loads(parcel.opened(name))
    if not succeeded:
        raise LabError(f"{name} failed on {parcel.sender}: {outcome}")
    return outcome
