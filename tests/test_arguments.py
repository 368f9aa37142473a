"""Paths on the command line: `~` is a home folder wherever it stands first."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from experiments.command_line import COMMANDS, parse
from experiments.configuration import Experiment
from experiments.play.configuration import Play
from experiments.presets import PRESETS
from lab.configuration.arguments import expanded, parsed
from lab.errors import LabError
from tests.command import PROJECT


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))  # on Windows
    return tmp_path


@pytest.mark.parametrize(
    ("settings", "without"),
    [(settings, {"pipeline"} if settings is Play else set()) for _, settings, _ in COMMANDS.values()]
    + [(Play, {"checkpoint", "weak_checkpoint"})],  # one or the other
)
def test_every_path_of_a_command_is_expanded(home: Path, settings: Any, without: set[str]) -> None:
    paths = [field.name for field in fields(settings) if "Path" in str(field.type) and field.name not in without]
    # The name of Play is a positional argument, and an alternative to its files.
    others = {"scenes": "3"} if settings is Play else {"name": "x", "scenes": "3"}
    arguments = [f"--{name}=~/{name}" for name in paths]
    arguments += [f"--{name}={value}" for name, value in others.items() if name in settings.__dataclass_fields__]
    found: Any = parsed(settings, arguments, "command", None)
    assert paths
    for name in paths:
        value = getattr(found, name)
        assert value in (home / name, (home / name,))


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_path_of_an_experiment_is_expanded(home: Path, preset: str) -> None:
    has_folder = PRESETS[preset][1].data.dataset not in ("digits", "mnist5k")
    experiment = parse(
        preset,
        ["--root=~/r", "--evaluator.weights", "~/w.pt", "--data.label-sets", "~/a.json", "b.json"]
        + (["--data.folder=~/f"] if has_folder else []),
    )
    assert isinstance(experiment, Experiment)
    assert (experiment.root, experiment.evaluator.weights) == (home / "r", home / "w.pt")
    assert experiment.data.label_sets == (home / "a.json", Path("b.json"))
    if has_folder:
        assert experiment.data.folder == home / "f"


def test_what_no_argument_names_stays_as_the_preset_has_it() -> None:
    assert parse("digits", []) == PRESETS["digits"][1]
    assert parsed(Experiment, [], "command", None, Experiment(name="x")).name == "x"


def test_a_folder_whose_own_name_begins_with_a_tilde_can_be_named(home: Path) -> None:
    assert expanded("./~x") == Path("~x")
    assert expanded("a/~/b") == Path("a/~/b")


def test_the_home_folder_of_nobody_is_refused() -> None:
    with pytest.raises(
        LabError, match="there is no user 'no-such-user'; for a folder named ~no-such-user, write ./~no-such-user"
    ):
        expanded("~no-such-user/x")


def test_no_command_reads_its_arguments_elsewhere() -> None:
    files = [PROJECT / "run_experiments.py"]
    files += [path for folder in ("lab", "evaluator", "experiments") for path in (PROJECT / folder).rglob("*.py")]
    assert [path.name for path in files if "tyro.cli(" in path.read_text(encoding="utf-8")] == ["arguments.py"]
