"""Locks: only one run at a time works in a folder.

The operating system releases the lock of a process that dies for any reason, so no stale lock remains.
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
    """Lock a folder for the duration of the block. A missing folder is created.

    Args:
        folder: the folder.
        wait: if another run holds the lock, print that and wait for the run to end.

    Raises:
        LabError: another run holds the lock (the message names its process), or the folder is not writable.
    """
    holder, lock = folder / "running.pid", FileLock(folder / ".lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            if not wait:
                raise
            tqdm.write(f"{folder} is in use by {_process(holder)}; waiting for it to end", file=sys.stderr)
            lock.acquire(timeout=-1)
        holder.write_text(f"{os.getpid()}\n", encoding="utf-8")
    except Timeout:
        raise LabError(f"{folder} is in use by {_process(holder)}; wait for it, or choose another --name") from None
    except OSError as error:
        raise LabError(f"{folder}: cannot write ({error.strerror or error}); choose another folder") from None
    try:
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _process(holder: Path) -> str:
    try:
        return f"process {int(holder.read_text(encoding='utf-8'))}"
    except (OSError, ValueError):  # the process has only just started, or is about to end
        return "another process"
