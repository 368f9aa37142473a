"""Several processes that train together: torchrun's, as a user starts them, on this machine."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

import lab
from lab.machine.ranks import Ranks
from lab.training.checkpoints import read_checkpoint
from tests.command import PROJECT, TINY, command, new_root, run, table
from tests.ranks_program import JUDGES, RECIPES, main

EPOCHS = 8
SMALL = [*TINY, *shlex.split(f"--training.epochs {EPOCHS} --training.checkpoints {EPOCHS} --sweep.newest 1")]


def torchrun(processes: int, *arguments: str) -> subprocess.Popen[str]:
    """Start processes on the loopback, under a torchrun of their own."""
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *arguments]
    return subprocess.Popen(line, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_the_shares_of_a_batch_are_the_batch(size: int) -> None:
    for images in (1, 2, 6, 7, 40):
        shares = [Ranks(rank, size).shared(images) for rank in range(size)]
        rows = [row for share in shares for row in range(images)[share.rows]]
        if images < size:
            assert rows == list(range(images)) * size
            assert {share.copies for share in shares} == {size}
        else:
            assert rows == list(range(images))
            assert {share.copies for share in shares} == {1}
            assert min(len(range(images)[share.rows]) for share in shares) >= 1


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    main(folder)
    return folder


@pytest.mark.long
@pytest.mark.parametrize("processes", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_several_processes_train_what_one_does(tmp_path: Path, one_process: Path, processes: int) -> None:
    program = torchrun(processes, str(PROJECT / "tests" / "ranks_program.py"), str(tmp_path))
    _, printed = program.communicate(timeout=300)
    assert program.returncode == 0, printed
    for name in RECIPES:
        expected, found = (torch.load(folder / f"{name}.pt") for folder in (one_process, tmp_path))
        assert found["losses"] == pytest.approx(expected["losses"], abs=1e-5)
        # One step's gradients are the same up to rounding; later ones are those of weights that differ by it.
        assert found["norms"] == pytest.approx(expected["norms"], rel=1e-3)
        assert found["norms"][0] == pytest.approx(expected["norms"][0], rel=1e-5)
        # Not after a batch of 2: the running statistics that BatchNorm samples with then multiply rounding.
        if name != "small last batch":
            images = [sampled(folder / name) for folder in (one_process, tmp_path)]
            assert float((images[0] - images[1]).abs().mean()) < 0.5
    for name in JUDGES:
        expected, found = (torch.load(folder / f"{name}.pt") for folder in (one_process, tmp_path))
        assert found["losses"] == pytest.approx(expected["losses"], abs=1e-5)
    # The last judge hardly learns. In others, Adam moves the biases before BatchNorm, whose gradient is 0, by rounding.
    for name, weights in found["weights"].items():
        torch.testing.assert_close(weights, expected["weights"][name], atol=1e-5, rtol=1e-5)
    first, *others = (torch.load(tmp_path / f"rank{rank}.pt") for rank in range(processes))
    for name, weights in first.items():
        assert all(torch.equal(weights, other[name]) for other in others), name


def sampled(folder: Path) -> torch.Tensor:
    """Return images of the checkpoint in a folder, with pixels from 0 to 255."""
    (path,) = folder.glob("epoch*.pt")
    label_sets = [[digit] for digit in "0123456789"]
    return lab.sample(read_checkpoint(path), label_sets, 1.0, device="cpu", precision="float32", progress=False).float()


def killed_in_a_checkpoint(root: Path, processes: int, rank: int) -> tuple[str, bool]:
    """Kill one process of a run while the first writes, and return what was printed and whether a file is half written.

    The rest must end within a minute.
    """
    program = torchrun(processes, *command("digits", *SMALL, "--root", str(root))[1:])
    folder, before = root / "checkpoints" / "digits", epochs_kept(root)
    while not (epochs_kept(root) > before and any(folder.glob(".*.partial"))):
        assert program.poll() is None, program.communicate()
    (victim,) = (child for child in psutil.Process(program.pid).children() if child.environ()["RANK"] == str(rank))
    os.kill(victim.pid, signal.SIGKILL)
    killed = time.monotonic()
    _, printed = program.communicate(timeout=60)
    assert time.monotonic() - killed < 60
    assert program.returncode != 0
    return printed, any(folder.glob(".*.partial"))


def epochs_kept(root: Path) -> int:
    return len(list((root / "checkpoints" / "digits").glob("epoch*.pt")))


@pytest.mark.slow
def test_a_process_killed_during_a_checkpoint_ends_all_and_any_number_goes_on(tmp_path: Path) -> None:
    whole, killed = new_root(tmp_path / "whole"), new_root(tmp_path / "killed")
    assert run(whole, "digits", *SMALL) == 0
    for processes, rank in ((3, 1), (2, 0)):
        printed, torn = killed_in_a_checkpoint(killed, processes, rank)
        # torchrun adds its own report of the process that was killed.
        errors = re.findall(r"^error: .*$", printed, re.MULTILINE)
        assert errors == [
            "error: a process of this training has ended; finished work is saved, and the same command resumes it, "
            "with any number of processes"
        ]
        assert torn or rank
    assert 2 <= epochs_kept(killed) < EPOCHS
    assert run(killed, "digits", *SMALL) == 0
    losses: list[Any] = [table(root, "training")["loss"].tolist() for root in (whole, killed)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert not list(killed.rglob("*.partial"))
