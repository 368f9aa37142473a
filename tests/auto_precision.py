"""The command with `--precision auto` resolved as a test names it, whatever units the machine has.

    python tests/auto_precision.py bfloat16 digits --training.epochs 2

A run in this process is resolved by `resolved`, for as long as its block lasts.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch


@contextmanager
def resolved(precision: str) -> Iterator[None]:
    """Let `auto` choose this precision for the length of the block."""
    from lab.machine import computation as room

    chosen = room.chosen_precision  # type: ignore[attr-defined]  # the name that the room calls

    def choose(name: str, *of: Any) -> str:
        return chosen(precision if name == "auto" else name, *of)

    with patch.object(room, "chosen_precision", choose):
        yield


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])
    import run_experiments

    with resolved(sys.argv[1]):
        status = run_experiments.main(sys.argv[2:])
    sys.exit(status)
