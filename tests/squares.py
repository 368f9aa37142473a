"""Work for tests of workers. Importing this does not import torch, so that processes start quickly."""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError
from lab.machine.workers import Worker


@dataclass(frozen=True)
class Squares:
    """Squares a number, and notes in a folder every time that it does.

    `killed_by` kills its process the first `kills` times, `refused` is an error of the user, and 0 one of Python's.
    A `file` must hold the text "content" where the worker has it. A task takes `seconds`.
    """

    folder: Path
    killed_by: int = -1
    kills: int = 1
    refused: int = -1
    file: Path | None = None
    seconds: float = 0.0

    def files(self, task: int) -> Sequence[Path]:
        return () if self.file is None else (self.file,)

    def name(self, task: int) -> str:
        return f"number {task}"

    def __call__(self, task: int, worker: Worker) -> tuple[int, int]:
        times = len(list(self.folder.glob(f"{task}-*")))
        (self.folder / f"{task}-{times}").touch()
        if task == self.killed_by and times < self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        if task == self.refused:
            raise LabError("this number is not allowed; give another")
        if self.file is not None:
            copy = worker.local(self.file.parent) / self.file.name
            assert copy.read_text() == "content"
            assert copy != self.file
        time.sleep(self.seconds)
        return task**2, 1 // task * 0 + worker.number

    def times(self) -> dict[int, int]:
        tasks = [int(path.name.split("-")[0]) for path in self.folder.iterdir()]
        return {task: tasks.count(task) for task in tasks}
