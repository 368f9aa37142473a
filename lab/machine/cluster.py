"""A cluster: an engine that computes tasks on the workers of a running Dask scheduler (extra [cluster]).

Workers need this lab installed, and no folder in common: files that tasks read travel as bytes with their digests, once
to each worker, and results travel back as bytes. The scheduler gives the tasks of a worker that is lost to others, and
tasks that have not started to workers that join late.
"""

import hashlib
import os
import pickle
import re
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, cast

from tqdm import tqdm

from lab.errors import LabError, lines_of
from lab.machine.workers import Parcel, Result, Task, Work, Worker, attempt, outcome_of, packed

SECONDS = 10
"""How long a scheduler may take to answer."""

_writing = threading.Lock()


def require_cluster() -> None:
    """Raise LabError unless the extra [cluster] is installed."""
    try:
        import distributed  # noqa: F401  # only tests that it is there
    except ImportError:
        raise LabError("--sweep.cluster needs the extra [cluster]: pip install -e '.[cluster]'") from None


def on_cluster(work: Work[Task, Result], tasks: Sequence[Task], *, address: str) -> Iterator[tuple[Task, Result]]:
    """Compute tasks on a Dask cluster and yield each task with its result, in the order of completion.

    Args:
        work: what to compute.
        tasks: the tasks.
        address: address of the scheduler, like tcp://10.0.0.1:8786.

    Raises:
        LabError: there is no scheduler at the address, a task failed or lost several workers, or a file or result was
            damaged on its way.
    """
    require_cluster()
    from distributed import Client, as_completed

    if not tasks:
        return
    try:
        client = Client(address, timeout=SECONDS)
    except (OSError, ValueError) as error:
        raise LabError(
            f"{address}: no Dask scheduler answers ({lines_of(error)[0]:.120}); start one with: dask scheduler"
        ) from None
    with client:
        if not client.ncores():
            tqdm.write(f"waiting for workers: dask worker {address} --nthreads 1", file=sys.stderr)
        files = {
            path: _sent(client, path) for path in dict.fromkeys(path for task in tasks for path in work.files(task))
        }
        run, what = os.urandom(4).hex(), pickle.dumps(work)
        futures = {}
        for place, task in enumerate(tasks):
            sent = [(str(path), files[path]) for path in work.files(task)]
            key = f"lab-task-{run}-{place}"
            futures[client.submit(_attempt, what, pickle.dumps(task), sent, key=key, pure=False)] = task
        for future in as_completed(futures):
            task = futures.pop(future)
            yield task, cast(Result, outcome_of(_parcel(future, work.name(task)), work.name(task)))


def _sent(client: Any, path: Path) -> Any:
    """Return the future of a file's bytes. It is a task with the bytes in it, so that losing a worker loses no file."""
    content = path.read_bytes()
    parcel = packed(content, f"this machine's {path}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sending large graph")
        return client.submit(_itself, parcel, key=f"lab-file-{parcel.digest}", pure=True)


def _itself(parcel: Parcel) -> Parcel:
    return parcel


def _parcel(future: Any, name: str) -> Parcel:
    from distributed import KilledWorker

    try:
        return cast(Parcel, future.result())
    except KilledWorker as error:
        raise LabError(
            f"{name}: its workers died, the last on {error.last_worker.address}; the memory of the workers may be full"
        ) from None
    except Exception as error:  # what a worker cannot even start, and a lost scheduler
        raise LabError(
            f"{name} failed on the cluster: {type(error).__name__}: {lines_of(error)[0]:.200}; "
            f"its workers need this version of the lab and a scheduler that stays"
        ) from None


def _attempt(work: bytes, task: bytes, files: list[tuple[str, Parcel]]) -> Parcel:
    """Compute a task in a worker of the cluster."""
    from distributed import get_worker

    own = get_worker()
    # `dask worker --nworkers 4` ends their names in -0 to -3.
    number = int(ending[0]) if (ending := re.search(r"\d+$", str(own.name).partition("://")[0])) else 0
    worker = Worker(number, f"worker {own.name} ({own.address})", _local)
    try:
        for path, parcel in files:
            _write(Path(path), parcel)
    except LabError as error:
        return packed(pickle.dumps((False, str(error))), worker.name)
    return attempt(pickle.loads(work), pickle.loads(task), worker)


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """This process's folder for files that were sent to it; it goes with the process."""
    return tempfile.TemporaryDirectory(prefix="diffusion-lab-")


def _local(folder: Path) -> Path:
    return Path(_folder().name) / hashlib.sha256(str(folder).encode(errors="surrogateescape")).hexdigest()[:16]


_written: dict[Path, str] = {}
"""The digests of the files in this process's folder."""


def _write(path: Path, parcel: Parcel) -> None:
    """Write a file that was sent, unless it is there."""
    copy = _local(path.parent) / path.name
    with _writing:
        if _written.get(copy) == parcel.digest:
            return
        content = parcel.opened(str(path))
        copy.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            copy.unlink()
        copy.write_bytes(content)
        _written[copy] = parcel.digest
