"""Disks that are full or may not be written to: one clear error, and what was saved before is as it was."""

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.command import TINY, command

pytestmark = pytest.mark.long

KIBIBYTE = 1024


def contents(root: Path) -> dict[str, str]:
    """Return the digest of every file, but for a lock's, which every run opens."""
    return {
        str(path.relative_to(root)): sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name not in (".lock", "running.pid")
    }


def fails(root: Path, *arguments: str, before: Callable[[], None] | None = None) -> str:
    """Run the digits where something cannot be written, and return the one error that was told."""
    saved = contents(root)
    done = subprocess.run(
        command("digits", *TINY, *arguments, "--root", str(root)),
        capture_output=True,
        text=True,
        preexec_fn=before,  # no thread is running
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    told = done.stderr.rsplit("error: ", 1)[1]
    assert len(told.splitlines()) <= 2, told
    after = contents(root)
    assert {name: after[name] for name in saved} == saved
    assert not list(root.rglob("*.partial"))
    return told


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "root")


@pytest.mark.parametrize("kibibytes", [1, 8, 20])
def test_a_quota_that_ends_within_a_cell(root: Path, kibibytes: int) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (kibibytes * KIBIBYTE, kibibytes * KIBIBYTE))

    told = fails(root, "--sweep.seeds", "3", before=limit)
    assert "cannot write" in told


@pytest.mark.parametrize("kibibytes", [1, 30, 200])
def test_a_quota_that_ends_within_a_checkpoint(root: Path, kibibytes: int) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (kibibytes * KIBIBYTE, kibibytes * KIBIBYTE))

    told = fails(root, "--name", "other", before=limit)
    assert "cannot write" in told


@pytest.fixture
def mounted(root: Path, tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a file system in memory with a finished run on it; only root may."""
    at = tmp_path / "disk"
    at.mkdir()

    def mount(options: str) -> Path:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(at)], capture_output=True)
        if done.returncode:
            pytest.skip("no right to mount a file system")
        shutil.copytree(root, at / "root")
        return at / "root"

    yield mount
    subprocess.run(["umount", "-l", str(at)], capture_output=True)


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount on this system")
def test_a_full_disk(mounted: Callable[[str], Path]) -> None:
    root = mounted("size=3m")
    free = shutil.disk_usage(root).free
    (root / "ballast").write_bytes(bytes(max(0, free - 12 * KIBIBYTE)))
    assert "No space left on device" in fails(root, "--sweep.seeds", "40")


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount on this system")
def test_a_folder_that_may_only_be_read(mounted: Callable[[str], Path]) -> None:
    root = mounted("size=8m")
    subprocess.run(["mount", "-o", "remount,ro", str(root.parent)], check=True)
    assert "Read-only file system" in fails(root, "--sweep.seeds", "3")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_the_right_to_write(root: Path) -> None:
    folder = root / "checkpoints" / "digits" / "cells"
    folder.chmod(0o555)
    try:
        assert "Permission denied" in fails(root, "--sweep.seeds", "3")
    finally:
        folder.chmod(0o755)
