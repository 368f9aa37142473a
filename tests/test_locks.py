"""Locks: the second run is refused by name, and a dead run's lock is no obstacle."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lab.errors import LabError
from lab.machine.locks import locked

HOLD = """
import sys, time
from pathlib import Path
from lab.machine.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_is_told_who_is_first(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints" / "digits"
    with holder(folder) as first:
        try:
            told = f"digits is in use by process {first.pid}; wait for it, or choose another --name"
            with pytest.raises(LabError, match=told), locked(folder):
                pass
        finally:
            first.kill()


def test_who_waits_says_for_whom_and_is_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with holder(tmp_path) as first:
        killer = threading.Timer(0.3, first.kill)
        killer.start()
        with locked(tmp_path, wait=True):
            assert first.wait(10) == -signal.SIGKILL
            assert int((tmp_path / "running.pid").read_text(encoding="utf-8")) == os.getpid()
    told = f"{tmp_path} is in use by process {first.pid}; waiting for it to end\n"
    assert capsys.readouterr().err.endswith(told)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_holder_is_no_obstacle(tmp_path: Path, how: signal.Signals) -> None:
    with holder(tmp_path) as first:
        os.kill(first.pid, how)
        first.wait()
    time.sleep(0.05)
    with locked(tmp_path):
        assert int((tmp_path / "running.pid").read_text(encoding="utf-8")) == os.getpid()


def test_a_lock_is_free_again_after_its_block_even_one_that_failed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        raise ZeroDivisionError
    with locked(tmp_path):
        pass
    assert not (tmp_path / "running.pid").exists()


def test_two_locks_in_one_process_exclude_each_other(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(LabError, match=f"in use by process {os.getpid()}"), locked(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="cannot write"), locked(tmp_path / "file" / "digits"):
        pass
