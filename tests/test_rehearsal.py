"""What could fail at the end of a run is tried at its beginning."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluator.reporting import fonts
from evaluator.reporting.rehearsal import rehearse_report
from experiments.ablation import Ablation, run_ablation
from experiments.configuration import Experiment
from lab.errors import LabError
from lab.machine.files import require_writable
from tests.command import TINY, new_root, run

Refused = Callable[..., None]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Check that a command ends with status 2 and says this, before it writes anything but its locks."""

    def check(root: Path, told: str, *arguments: str) -> None:
        before = sorted(root.rglob("*.*"))
        assert run(root, *arguments) == 2
        error = capsys.readouterr().err
        assert told in error
        assert len(error[error.index("error: ") :].strip().splitlines()) <= 2
        assert sorted(path for path in root.rglob("*.*") if path.name != ".lock") == before

    return check


@pytest.mark.parametrize("package", ["tabulate", "jinja2"])
def test_a_package_of_the_report_that_is_missing_is_met_before_training(
    tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    # pandas' LaTeX tables import jinja2 with this module, which an earlier test may have done.
    monkeypatch.delitem(sys.modules, "pandas.io.formats.style", raising=False)
    refused(new_root(tmp_path), package, "digits", *TINY)


@pytest.mark.parametrize(
    ("folder", "told"),
    [
        ("reports/digits/report.md", "report.md is a folder, but the report writes a file there"),
        ("reports/digits/report.html", "report.html is a folder, but the report writes a file there"),
        ("reports/digits/samples.png", "samples.png is a folder, but the report writes a file there"),
    ],
)
def test_a_folder_in_a_files_place_is_met_before_training(
    tmp_path: Path, refused: Refused, folder: str, told: str
) -> None:
    (new_root(tmp_path) / folder).mkdir(parents=True)
    refused(tmp_path, told, "digits", *TINY)


@pytest.mark.parametrize("file", ["reports/digits", "checkpoints/digits/cells", "checkpoints/digits/by_accuracy"])
def test_a_file_in_a_folders_place_is_met_before_training(tmp_path: Path, refused: Refused, file: str) -> None:
    (path := new_root(tmp_path) / file).parent.mkdir(parents=True)
    path.write_text("in the way")
    refused(tmp_path, f"{path} is a file, but must be a folder", "digits", *TINY)


def test_a_tutorial_and_an_ablation_rehearse_before_their_evaluator(
    tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tabulate", None)
    refused(new_root(tmp_path), "tabulate", "tutorial-digits")
    with pytest.raises(LabError, match="tabulate"):
        run_ablation(Experiment(root=tmp_path), Ablation("GELU", {"ReLU": {"denoiser": {"activation": "relu"}}}))
    assert not list(tmp_path.rglob("*.pt"))


def test_names_that_no_font_has_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "installed_fonts", lambda: ())
    fonts.covering.cache_clear()
    try:
        (told,) = rehearse_report(tmp_path, ["方塊", "cube"], ["測試"])
        assert told.startswith("no installed font has 塊方測試; figures show boxes")
        assert "\n" not in told
        assert rehearse_report(tmp_path, ["cube", "$\\frac", "\x1b", r"\xa4"], ["test"]) == []
    finally:
        fonts.covering.cache_clear()
    assert not list(tmp_path.iterdir())


def test_the_line_is_printed_once_for_all_experiments_that_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("evaluator.reporting.rehearsal.rehearse_report", lambda *_: ["said once"])
    for name in ("one", "two"):
        # The evaluator's file is damaged, so that nothing is trained.
        (folder := new_root(tmp_path) / "checkpoints" / name).mkdir(parents=True)
        (folder / "evaluator.pt").write_bytes(b"damaged")
        assert run(tmp_path, "digits", *TINY, "--name", name) == 2
    assert capsys.readouterr().err.count("warning: said once\n") == 1


def test_trying_a_folder_leaves_nothing_there(tmp_path: Path) -> None:
    require_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new").rglob("*")) == [tmp_path / "new" / "folder"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_the_right_to_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(LabError, match="cannot write"):
        require_writable(tmp_path)
