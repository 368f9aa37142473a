"""The installed command `diffusion-lab` and run_experiments.py, from folders that hold files of the same names."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from experiments.command_line import COMMANDS
from tests.command import PROJECT

SETTINGS = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))

FILES = ["--images", ".", "--labels", "test.json", "--weights", "checkpoint.pth", "--out", "scores.csv"]


def launcher(folder: Path) -> Path:
    """Write what pip writes for the entry point of pyproject.toml, in a folder that holds nothing else."""
    module, function = SETTINGS["project"]["scripts"]["diffusion-lab"].split(":")
    (path := folder / "bin" / "diffusion-lab").parent.mkdir()
    path.write_text(f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n")
    return path


@pytest.fixture(params=["run_experiments.py", "diffusion-lab"])
def program(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return PROJECT / "run_experiments.py" if request.param == "run_experiments.py" else launcher(tmp_path)


def run_in(folder: Path, program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    return subprocess.run(
        [sys.executable, str(program), *arguments],
        capture_output=True, text=True, check=False, cwd=folder, env=environment,
    )  # fmt: skip


@pytest.fixture
def student_folder(tmp_path: Path) -> Path:
    """A folder as a student has it: files called like packages of the lab, and of what the lab is built on."""
    (folder := tmp_path / "student").mkdir()
    for name in (
        "evaluator",
        "lab",
        "experiments",
        "data",
        "run_experiments",
        "torch",
        "torchvision",
        "pandas",
        "tyro",
    ):
        (folder / f"{name}.py").write_text(f"raise SystemExit('the {name}.py of the student was run')\n")
    return folder


@pytest.mark.long
def test_score_is_ours_in_a_folder_that_has_an_evaluator_of_its_own(student_folder: Path, program: Path) -> None:
    done = run_in(student_folder, program, "score", *FILES)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.strip() == "error: test.json: no such label-set file"
    helped = run_in(student_folder, program, "score", "--help")
    assert helped.returncode == 0
    assert helped.stdout.startswith(f"usage: {program.name} score ")


@pytest.mark.long
def test_networks_are_ours_in_such_a_folder_too(student_folder: Path, program: Path) -> None:
    (student_folder / "test.json").write_text('[["a"]]')
    (student_folder / "checkpoint.pth").write_bytes(b"\x00")
    done = run_in(student_folder, program, "score", *FILES)
    assert done.returncode == 2
    assert done.stderr.startswith("error: checkpoint.pth: this evaluator is damaged or not a torch file")


def test_every_command_has_help_and_none_loads_torch() -> None:
    script = (
        "import sys\nfrom experiments.command_line import COMMANDS, main\n"
        "for name in COMMANDS:\n"
        "    try: main([name, '--help'])\n    except SystemExit as ended: assert not ended.code\n"
        "print('torch' in sys.modules, 'pandas' in sys.modules, 'matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert done.stdout.splitlines()[-1] == "False False False"
    for name, (purpose, _, _) in COMMANDS.items():
        assert re.search(rf"usage: \S+ {name} ", done.stdout)
        assert purpose[1:] in " ".join(done.stdout.split())


def test_the_judge_is_no_program() -> None:
    # `python -m evaluator` runs an evaluator.py that lies in the current folder.
    assert not (PROJECT / "evaluator" / "__main__.py").exists()


@pytest.mark.long
@pytest.mark.skipif(find_spec("setuptools") is None, reason="setuptools is not installed")
def test_an_installed_copy_has_every_file(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("lab", "evaluator", "experiments", "pyproject.toml", "README.md"):
        (source / name).symlink_to(PROJECT / name)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(tmp_path)!r})"
    built = subprocess.run([sys.executable, "-c", build], capture_output=True, text=True, check=False, cwd=source)
    assert built.returncode == 0, built.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
        entry_points = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
        assert "diffusion-lab = experiments.command_line:main" in wheel.read(entry_points).decode()
    packages = ("lab", "evaluator", "experiments")
    suffixes = (".py", ".jinja", ".css", ".js")
    paths = [path for name in packages for path in (PROJECT / name).rglob("*.*") if path.suffix in suffixes]
    assert held == {str(path.relative_to(PROJECT)) for path in paths}
