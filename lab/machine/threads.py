"""CPU threads: how long a thread that has finished its share spins while it waits for the others.

torch's threads synchronise after every layer, and in OpenMP the first to arrive spin. On a busy machine, they occupy
the processor that the last thread needs: next to two busy programs, the digits' network trains and samples 25 to 80
times slower on two threads than on an idle machine. A short spin followed by sleep avoids this and costs little on an
idle machine (LOG.md, 2026-11-25; `benchmarks/precision_and_threads.py`). torch still chooses the number of threads, so
results do not change.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

SPINS = "10000"
"""About 30 microseconds, longer than the threads of a layer wait for each other on an idle machine."""


def bound_spinning() -> None:
    """Make OpenMP's threads sleep after a short spin, unless the user set a policy. Call it before torch loads."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def undo_single_threads() -> None:
    """Undo torchrun's OMP_NUM_THREADS=1, its default for several processes on a machine. Call it before torch loads.

    The first rank then samples on all processors, and a training shares them among the ranks (`lab.machine.ranks`).
    Another number is the user's, and stays.
    """
    if int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1 and os.environ.get("OMP_NUM_THREADS") == "1":
        del os.environ["OMP_NUM_THREADS"]


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Have torch compute on this number of CPU threads, and on as many as before at the end.

    Args:
        count: the number; 0 changes nothing.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
