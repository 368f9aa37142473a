"""Threads of a CPU: how long one that has finished its share waits for the others by spinning.

Torch's threads meet after every layer, and OpenMP has those that arrive first spin. On a busy machine they spin away
the processor that the last one waits for: beside two busy programs the digits' network then trains and samples 25 to 80
times slower on two threads than alone. A short spin and then sleep costs little on an idle machine and ends that
(LOG.md, 2026-11-25; `benchmarks/precision_and_threads.py`). The number of threads stays torch's own, so that no bit of
a result changes.
"""

import os

SPINS = "10000"
"""About 30 microseconds, longer than a layer's threads wait for each other when nothing else runs."""


def bound_spinning() -> None:
    """Have OpenMP's threads sleep after a short spin, unless the user has chosen otherwise; call it before torch."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
