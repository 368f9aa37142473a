"""Runs that are killed: at any moment, many times in one run, the end is the same bits."""

import random
import shlex
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.command import TIMING, TINY, command, new_root, run, table

KILLS = 20
SMALL = [*TINY, *shlex.split("--training.epochs 40 --training.checkpoints 4 --sweep.seeds 2")]
"""Long enough that kills fall into training, into the sweep and into the report."""


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_in_the_same_bits(tmp_path: Path) -> None:
    whole, killed = new_root(tmp_path / "whole"), new_root(tmp_path / "killed")
    started = time.monotonic()
    subprocess.run(command("digits", *SMALL, "--root", str(whole)), check=True, capture_output=True)
    seconds = time.monotonic() - started

    moments, kills, ended = random.Random(0), 0, 0
    while kills < KILLS:
        process = subprocess.Popen(
            command("digits", *SMALL, "--root", str(killed)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            _, told = process.communicate(timeout=moments.uniform(0.3, 1) * seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            continue
        # It came to its end; some of the sweep is taken away, so that the next kill has something to fall into.
        assert process.returncode == 0, told
        ended += 1
        assert ended < 5 * KILLS
        for cell in sorted((killed / "checkpoints" / "digits" / "cells").iterdir())[: moments.randrange(1, 6)]:
            cell.unlink()
    assert run(killed, "digits", *SMALL) == 0

    assert not list(killed.rglob("*.partial"))
    pd.testing.assert_frame_equal(table(killed).drop(columns=TIMING), table(whole).drop(columns=TIMING))
    for path in sorted((whole / "checkpoints" / "digits").glob("*.pt")):
        if path.stem == "training":
            continue
        expected = torch.load(path, weights_only=True)["weights"]
        found = torch.load(killed / path.relative_to(whole), weights_only=True)["weights"]
        for name, tensor in expected.items():
            assert torch.equal(found[name], tensor), (path.name, name)
