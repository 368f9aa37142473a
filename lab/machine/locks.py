"""Locks: one run at a time works in a folder.

The operating system frees the lock of a process that dies, however it dies, so none is ever left behind.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from lab.errors import LabError


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Hold a folder, made as needed, for the length of the block.

    Args:
        folder: the folder.
        wait: where another run holds it, say so and wait for its end.

    Raises:
        LabError: another run holds it, whose process is named; or it cannot be written to.
    """
    holder, lock = folder / "running.pid", FileLock(folder / ".lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            if not wait:
                raise
            tqdm.write(f"{folder} is held by {_told(holder)}; waiting for its end", file=sys.stderr)
            lock.acquire(timeout=-1)
        holder.write_text(f"{os.getpid()}\n", encoding="utf-8")
    except Timeout:
        told = f"{folder} is held by {_told(holder)}, which is at work there; wait for it, or choose another --name"
        raise LabError(told) from None
    except OSError as error:
        raise LabError(f"{folder}: cannot write ({error.strerror or error}); choose another folder") from None
    try:
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _told(holder: Path) -> str:
    try:
        return f"process {int(holder.read_text(encoding='utf-8'))}"
    except (OSError, ValueError):  # it has only just begun, or is about to end
        return "another process"
