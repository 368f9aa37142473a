"""Runs that are killed: at any moment, many times in one run, the end is the same bits."""

import random
import shlex
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tests.command import TIMING, TINY, command, new_root, run, table

KILLS = 20
SMALL = [*TINY, *shlex.split("--training.epochs 16 --training.checkpoints 4")]
"""Long enough that kills fall into training, into the sweep and into the report."""


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_in_the_same_bits(tmp_path: Path) -> None:
    whole, killed = new_root(tmp_path / "whole"), new_root(tmp_path / "killed")
    started = time.monotonic()
    subprocess.run(command("digits", *SMALL, "--root", str(whole)), check=True, capture_output=True)
    seconds = time.monotonic() - started

    moments, kills, ended, torn = random.Random(0), 0, 0, 0
    steps: set[int] = set()
    while kills < KILLS:
        process = subprocess.Popen(
            command("digits", *SMALL, "--root", str(killed)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        # The first kills walk through a whole run, from its training on; the later ones fall anywhere.
        share = (kills + 3) / 12 if kills < 8 else moments.uniform(0.2, 0.9)
        try:
            _, told = process.communicate(timeout=share * seconds)
        except subprocess.TimeoutExpired:
            # Writes take milliseconds, so every other kill waits for one.
            while kills % 2 and process.poll() is None and not any(killed.rglob(".*.partial")):
                pass
            process.kill()
            process.communicate()
            kills += 1
            torn += any(killed.rglob(".*.partial"))
            if (state := killed / "checkpoints" / "digits" / "training.pt").exists():
                steps.add(torch.load(state, weights_only=True)["trainer"]["step"])
            continue
        # It came to its end; the training or some of the sweep is taken away, for the next kill to fall into.
        assert process.returncode == 0, told
        ended += 1
        assert ended < 5 * KILLS
        if ended % 2:
            for path in (killed / "checkpoints" / "digits").glob("*.pt"):
                if path.stem != "evaluator":
                    path.unlink()
        for cell in sorted((killed / "checkpoints" / "digits" / "cells").iterdir())[: moments.randrange(1, 6)]:
            cell.unlink()
    assert run(killed, "digits", *SMALL) == 0

    assert not list(killed.rglob("*.partial"))
    # Some fell into the middle of a training, and some into the middle of writing a file.
    assert len(steps) > 1
    assert torn > 1
    pd.testing.assert_frame_equal(table(killed).drop(columns=TIMING), table(whole).drop(columns=TIMING))
    for path in sorted((whole / "checkpoints" / "digits").glob("*.pt")):
        if path.stem == "training":
            continue
        expected = torch.load(path, weights_only=True)["weights"]
        found = torch.load(killed / path.relative_to(whole), weights_only=True)["weights"]
        for name, tensor in expected.items():
            assert torch.equal(found[name], tensor), (path.name, name)
    for path in sorted((whole / "checkpoints" / "digits" / "cells").glob("*.npz")):
        with np.load(path) as expected_cell, np.load(killed / path.relative_to(whole)) as found_cell:
            for name in ("pixels", "logits"):
                assert np.array_equal(expected_cell[name], found_cell[name]), (path.name, name)
