"""Accuracy while training runs: the sweep's own cells, a name for every checkpoint, and stops in between."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import lab.sweep.run
from evaluator.judging.epochs import accuracy_by_epoch
from experiments.reporting import name_by_accuracy
from lab.sweep.cells import SweepCell
from tests.command import TINY, Mistake, new_root, run, table

EVERY = [*TINY, "--training.epochs", "3", "--training.checkpoints", "1", "--training.score-every", "1"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = new_root(tmp_path_factory.mktemp("measured"))
    assert run(root, "digits", *EVERY) == 0
    return root


def names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "checkpoints" / "digits" / "by_accuracy").iterdir())


def named_by(rows: pd.DataFrame) -> list[str]:
    return [f"epoch{int(row['epoch'])}_{row['test']:.4f}_{row['new_test']:.4f}.pt" for _, row in rows.iterrows()]


def test_the_table_has_the_accuracies_at_w_0_and_the_losses() -> None:
    columns = ["checkpoint", "epoch", "step", "guidance_method", "guidance_weight", "guidance_scale"]
    columns += ["label_set", "accuracy", "accuracy_low", "accuracy_high"]
    sweep = pd.DataFrame(
        [
            ("epoch0002", 2, 20, "plain", 0.0, 1.0, "test", 0.6, 0.5, 0.7),
            ("epoch0002", 2, 20, "plain", 0.0, 1.0, "new_test", 0.4, 0.3, 0.5),
            ("epoch0002", 2, 20, "plain", 2.0, 3.0, "test", 0.9, 0.8, 1.0),
            ("epoch0001", 1, 10, "plain", 0.0, 1.0, "test", 0.2, 0.1, 0.3),
            ("epoch0001", 1, 10, "plain", 0.0, 1.0, "new_test", 0.1, 0.0, 0.2),
            ("epoch0001", 1, 10, "interval", 0.0, 1.0, "test", 0.3, 0.2, 0.4),
        ],
        columns=columns,
    )
    sweep = sweep.assign(effective_guidance_scale=sweep["guidance_scale"], guidance_warning="")
    training = pd.DataFrame({"epoch": [1, 2], "loss": [0.5, 0.25]})
    found = accuracy_by_epoch(sweep, training)
    expected = {
        "epoch": [1, 2], "step": [10, 20], "loss": [0.5, 0.25],
        "test": [0.2, 0.6], "test_low": [0.1, 0.5], "test_high": [0.3, 0.7],
        "new_test": [0.1, 0.4], "new_test_low": [0.0, 0.3], "new_test_high": [0.2, 0.5],
    }  # fmt: skip
    pd.testing.assert_frame_equal(found, pd.DataFrame(expected))
    assert accuracy_by_epoch(sweep, pd.DataFrame())["loss"].isna().all()
    assert accuracy_by_epoch(sweep[sweep["guidance_weight"] != 0], training).empty


def test_accuracies_and_names_appear_while_training_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, seen = new_root(tmp_path), []

    def looking(experiment: Any, row: pd.Series) -> None:
        name_by_accuracy(experiment, row)
        report = (root / "reports" / "digits" / "report.md").exists()
        seen.append((names(root), table(root, "accuracy_by_epoch")["epoch"].tolist(), report))

    monkeypatch.setattr("experiments.running_accuracy.name_by_accuracy", looking)
    assert run(root, "digits", *EVERY, "--sweep.guidance-weights", "0") == 0
    # After each epoch, one more checkpoint has a name and a row, and no report is there yet.
    assert [(len(found), epochs, report) for found, epochs, report in seen] == [
        (1, [1], False), (2, [1, 2], False), (3, [1, 2, 3], False),
    ]  # fmt: skip
    # At w = 0 alone, names and table are those of the end.
    final = table(root, "accuracy_by_epoch")
    assert seen[-1][0] == names(root) == named_by(final)
    assert final["loss"].tolist() == pytest.approx(table(root, "training")["loss"].tolist())
    folder = root / "checkpoints" / "digits"
    for epoch, name in enumerate(names(root), start=1):
        assert (folder / "by_accuracy" / name).samefile(folder / f"epoch000{epoch}.pt")


@pytest.mark.long
def test_measuring_changes_neither_the_training_nor_the_sweep(measured: Path, tmp_path: Path) -> None:
    root = new_root(tmp_path)
    assert run(root, "digits", *EVERY, "--training.score-every", "0", "--training.checkpoints", "3") == 0
    for epoch in (1, 2, 3):
        own, other = (
            torch.load(folder / "checkpoints" / "digits" / f"epoch000{epoch}.pt", weights_only=True)["weights"]
            for folder in (measured, root)
        )
        assert all(torch.equal(own[name], other[name]) for name in own)
    columns = ["epoch", "label_set", "guidance_weight", "accuracy"]
    pd.testing.assert_frame_equal(table(measured)[columns], table(root)[columns])
    pd.testing.assert_frame_equal(table(measured, "accuracy_by_epoch"), table(root, "accuracy_by_epoch"))


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the cells that are run from here on."""
    keys: list[str] = []
    run_cells = lab.sweep.run.run_cells

    def counting(cells: Sequence[SweepCell], wanted: Sequence[str], *rest: Any) -> Any:
        keys.extend(wanted)
        return run_cells(cells, wanted, *rest)

    monkeypatch.setattr(lab.sweep.run, "run_cells", counting)
    return keys


@pytest.mark.long
def test_no_cell_runs_twice(tmp_path: Path, ran: list[str]) -> None:
    root = new_root(tmp_path)
    assert run(root, "digits", *EVERY) == 0
    # 3 checkpoints, 2 files and 3 weights; those of w = 0 first.
    assert len(ran) == len(set(ran)) == 18
    assert all("-w0-" in key for key in ran[:6])
    assert {key.split("-")[0] for key in ran[:6]} == {"epoch0001", "epoch0002", "epoch0003"}
    before = table(root, "accuracy_by_epoch")
    assert run(root, "digits", *EVERY) == 0
    assert len(ran) == 18
    pd.testing.assert_frame_equal(table(root, "accuracy_by_epoch"), before)


class StoppedError(Exception):
    """The run is cut off here."""


@pytest.mark.long
@pytest.mark.parametrize("cut", ["before the cells of epoch 2", "between its cells and its name"])
def test_a_run_that_was_stopped_measures_what_is_missing(
    measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ran: list[str], cut: str
) -> None:
    root = new_root(tmp_path)
    with monkeypatch.context() as patched:
        if cut.startswith("before"):
            load = lab.sweep.run.load_for_cell

            def stopping(cell: SweepCell, *rest: Any) -> Any:
                if cell.epoch == 2:
                    raise StoppedError
                return load(cell, *rest)

            patched.setattr(lab.sweep.run, "load_for_cell", stopping)
        else:

            def stopping_at_the_name(experiment: Any, row: pd.Series) -> None:
                if row["epoch"] == 2:
                    raise StoppedError
                name_by_accuracy(experiment, row)

            patched.setattr("experiments.running_accuracy.name_by_accuracy", stopping_at_the_name)
        with pytest.raises(StoppedError):
            run(root, "digits", *EVERY)
    assert len(names(root)) == 1
    assert run(root, "digits", *EVERY) == 0
    assert len(ran) == len(set(ran)) == 18
    assert names(root) == names(measured)
    pd.testing.assert_frame_equal(table(root, "accuracy_by_epoch"), table(measured, "accuracy_by_epoch"))


@pytest.mark.long
def test_w_0_is_measured_though_it_is_not_swept(tmp_path: Path) -> None:
    root = new_root(tmp_path)
    assert run(root, "digits", *EVERY, "--sweep.guidance-weights", "2", "--sweep.newest", "1") == 0
    rows, ranked = table(root, "accuracy_by_epoch"), table(root, "ranking")
    assert rows["epoch"].tolist() == [1, 2, 3]
    assert ranked["guidance_weight"].tolist() == [2]
    # The swept checkpoint is named by its best row, the others by their accuracy at w = 0.
    assert names(root) == [*named_by(rows.iloc[:2]), *named_by(ranked)]


@pytest.mark.long
def test_without_w_0_there_is_no_table(tmp_path: Path) -> None:
    root = new_root(tmp_path)
    # The first report has the table; that of other weights removes it.
    assert run(root, "digits", *TINY) == 0
    assert (root / "reports" / "digits" / "accuracy_by_epoch.csv").exists()
    assert run(root, "digits", *TINY, "--sweep.guidance-weights", "2") == 0
    assert not (root / "reports" / "digits" / "accuracy_by_epoch.csv").exists()
    assert "accuracy_by_epoch" not in (root / "reports" / "digits" / "report.md").read_text(encoding="utf-8")


def test_where_there_is_nothing_to_measure_the_option_is_refused(tmp_path: Path, mistake: Mistake) -> None:
    option = ["--training.score-every", "1"]
    mistake(tmp_path, "--training.epochs is 0, which trains nothing", "digits", *option, "--training.epochs", "0")
    unconditional = ["--denoiser.kind", "unet2d", "--denoiser.no-conditional"]
    mistake(tmp_path, "an unconditional denoiser has no accuracy", "digits", *option, *unconditional)
