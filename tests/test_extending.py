"""docs/extending.md: every example is whole, short, and runs outside the lab; docs/python.md and README likewise."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import PROJECT


def examples(page: str) -> dict[str, str]:
    """Return the Python of a page by the heading above it."""
    found, heading = {}, ""
    for part in re.split(r"(?m)^(#+ .*)$", (PROJECT / page).read_text(encoding="utf-8")):
        if part.startswith("#"):
            heading = part.lstrip("# ")
        for code in re.findall(r"(?s)```python\n(.*?)```", part):
            found[heading] = code
    return found


EXTENDING = examples("docs/extending.md")


def test_there_is_an_example_of_each_kind() -> None:
    kinds = ("method of guidance", "sampler", "noise schedule", "network", "dataset")
    assert [heading for heading in EXTENDING if heading.endswith(kinds)] == list(EXTENDING)
    assert len(EXTENDING) == len(kinds)


@pytest.mark.parametrize("heading", EXTENDING)
def test_an_example_is_under_40_lines(heading: str) -> None:
    assert len([line for line in EXTENDING[heading].splitlines() if line.strip()]) < 40


@pytest.mark.long
@pytest.mark.parametrize("heading", EXTENDING)
def test_an_example_runs_outside_the_lab(heading: str, tmp_path: Path) -> None:
    (script := tmp_path / "plug_in.py").write_text(EXTENDING[heading], encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # Two label sets, two images of the digits' size.
    assert done.stdout.splitlines()[-1] == "torch.Size([2, 1, 8, 8])"
    assert [path.name for path in tmp_path.iterdir()] == ["plug_in.py"]
