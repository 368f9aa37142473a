"""Set up before anything imports torch, and what many tests start from."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The networks of the tests are tiny: a second thread only waits for the first, above all on a busy machine.
os.environ["OMP_NUM_THREADS"] = "1"

# How long an example takes says more of what else the machine does than of the code.
settings.register_profile("lab", deadline=None)
settings.load_profile("lab")


from tests.auto_precision import resolved  # noqa: E402  # after the setting above
from tests.command import TINY, Mistake, command, new_root, run  # noqa: E402


@pytest.fixture(scope="module")
def precision() -> str:
    """What `auto` chooses in this module's commands, on every machine."""
    return "float32"


@pytest.fixture(scope="module", autouse=True)
def _auto(precision: str) -> Iterator[None]:
    with resolved(precision):
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, precision: str) -> Path:
    root = new_root(tmp_path_factory.mktemp("lab"))
    arguments = command("digits", *TINY, "--root", str(root), auto=precision)
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"report: {root / 'reports' / 'digits' / 'report.md'}"
    assert len(done.stdout.splitlines()) == 7
    return root


@pytest.fixture
def mistake(capsys: pytest.CaptureFixture[str]) -> Mistake:
    """Check that a command ends with status 2 and one or two lines that say this, and changes no file."""

    def check(root: Path, told: str, *arguments: str) -> None:
        before = {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
        capsys.readouterr()
        assert run(root, *arguments) == 2
        error = capsys.readouterr().err
        assert told in error
        # A progress bar that had begun stands before the message.
        assert len(error[error.index("error: ") :].strip().splitlines()) <= 2
        assert {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()} == before

    return check
