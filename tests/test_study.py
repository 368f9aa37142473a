"""Several training seeds: the interval over trainings and images, its coverage, and the command."""

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss

from evaluator.judging.intervals import crossed_interval, ratio_interval
from evaluator.judging.trainings import ROW, CountedCell, accuracy_over_trainings
from experiments import runs
from experiments.configuration import Experiment
from experiments.presets import DIGITS
from lab.data.datasets import digits
from lab.errors import LabError
from lab.machine import devices, processes
from lab.training.checkpoints import load_checkpoint
from tests.command import TINY, Mistake, command, new_root, run, table
from tests.pages import contents_of


def trainings(random: np.random.Generator, count: int, spread: float, asked: np.ndarray) -> np.ndarray:
    """Draw the correct labels of trainings: each has a skill of its own, and each image is hard for all of them."""
    skill = spread * random.standard_normal((count, 1))
    difficulty = 0.8 * random.standard_normal(len(asked))
    chance = 1 / (1 + np.exp(-(1.5 + skill + difficulty)))
    return random.binomial(asked, chance)


# With two trainings that differ much, the degrees of freedom are too uncertain; docs/evaluation.md says to take three.
@pytest.mark.parametrize(("count", "least"), [(2, 0.87), (3, 0.92), (10, 0.93)])
@pytest.mark.parametrize("spread", [0.0, 0.3, 0.6])
def test_the_interval_covers_the_recipe_s_accuracy(count: int, least: float, spread: float) -> None:
    random = np.random.default_rng(count)
    asked = np.resize([1, 2, 3], 96)
    # The mean over all trainings and images, of a normal sum of skill and difficulty, by Gauss-Hermite quadrature.
    points, weights = hermegauss(60)
    truth = float(weights @ (1 / (1 + np.exp(-(1.5 + np.hypot(spread, 0.8) * points)))) / weights.sum())
    intervals = [crossed_interval(trainings(random, count, spread, asked), asked) for _ in range(1000)]
    covered = np.mean([interval.low <= truth <= interval.high for interval in intervals])
    # One standard error over 1,000 studies is 0.007 to 0.01.
    assert covered >= least
    # Images alone would cover less where trainings differ.
    if spread and count < 10:
        one = [trainings(random, 1, spread, asked)[0] for _ in range(1000)]
        alone = np.mean([(i := ratio_interval(correct, asked)).low <= truth <= i.high for correct in one])
        assert alone < 0.92


def test_the_interval_is_the_mean_squares_of_the_table() -> None:
    correct, asked = np.array([[1, 2, 0, 1], [1, 1, 1, 2], [0, 2, 0, 2]]), np.array([1, 2, 1, 2])
    value = correct.sum() / (3 * asked.sum())
    residual = (correct - value * asked) / asked.mean()
    cells = pd.DataFrame(
        [(s, i, residual[s, i]) for s in range(3) for i in range(4)], columns=["training", "image", "r"]
    )
    means = {name: cells.groupby(name)["r"].transform("mean") for name in ("training", "image")}
    squares = {name: (mean**2).sum() / (cells[name].nunique() - 1) for name, mean in means.items()}
    rest = ((cells["r"] - means["training"] - means["image"]) ** 2).sum() / 6
    variance = max(squares["training"] + squares["image"] - rest, squares["image"]) / 12
    interval = crossed_interval(correct, asked)
    assert interval.value == pytest.approx(value)
    # Wilson's interval solves (p - x)^2 = point^2 x (1 - x) / n for its ends x: both give the same point.
    effective = value * (1 - value) / variance
    points = [(value - end) ** 2 * effective / (end * (1 - end)) for end in (interval.low, interval.high)]
    assert points[0] == pytest.approx(points[1])


def test_all_labels_correct_leaves_an_interval_of_the_images() -> None:
    asked = np.array([1, 2, 3, 3])
    interval = crossed_interval(np.stack([asked, asked]), asked)
    assert (interval.value, interval.high) == (1, 1)
    assert interval.low == ratio_interval(asked, asked).low


def cell(weight: float, file: str, correct: list[int]) -> CountedCell:
    row = ("epoch0002", 2, "plain", "", weight, file)
    return CountedCell(row, np.array(correct), np.array([1, 2]))


def test_the_table_has_every_training_and_orders_rows_by_the_first_file() -> None:
    found = accuracy_over_trainings(
        {
            0: [cell(0, "test", [1, 0]), cell(0, "new", [1, 2]), cell(2, "test", [1, 2]), cell(2, "new", [0, 2])],
            5: [cell(0, "test", [0, 1]), cell(0, "new", [1, 1]), cell(2, "test", [1, 1]), cell(2, "new", [0, 1])],
        }
    )
    assert found[["guidance_weight", "label_set"]].to_numpy().tolist() == [
        [2, "test"], [2, "new"], [0, "test"], [0, "new"],
    ]  # fmt: skip
    assert found["trainings"].eq(2).all()
    assert found["accuracy"].tolist() == pytest.approx([5 / 6, 3 / 6, 2 / 6, 5 / 6], abs=1e-6)
    assert found["seed_0"].tolist() == pytest.approx([1, 2 / 3, 1 / 3, 1], abs=1e-6)
    assert found["seed_5"].tolist() == pytest.approx([2 / 3, 1 / 3, 1 / 3, 2 / 3], abs=1e-6)
    assert list(found.columns[: len(ROW)]) == ROW


def test_a_study_trains_each_seed_under_one_evaluator_and_resumes(tmp_path: Path) -> None:
    root = new_root(tmp_path)
    study = [*TINY, "--training.epochs", "1", "--training.checkpoints", "1", "--seeds"]
    assert run(root, "digits", *study, "0", "3") == 0
    found = table(root, "study")
    for seed in (0, 3):
        own = table(root, "sweep", f"digits-seed{seed}").set_index(["guidance_weight", "label_set"])["accuracy"]
        merged = found.set_index(["guidance_weight", "label_set"])[f"seed_{seed}"]
        pd.testing.assert_series_equal(merged.sort_index(), own.sort_index(), check_names=False, atol=1e-6)
        assert not (root / "checkpoints" / f"digits-seed{seed}" / "evaluator.pt").exists()
    assert (found["accuracy"] == ((found["seed_0"] + found["seed_3"]) / 2).round(6)).mean() > 0.9
    assert not found["seed_0"].equals(found["seed_3"])
    assert (root / "checkpoints" / "digits" / "evaluator.pt").exists()
    assert (root / "reports" / "digits" / "study.md").exists()
    shown = contents_of(root / "reports" / "digits" / "report.html")
    assert (shown["compared"], shown["methods"]) == ("training", ["seed 0", "seed 3"])
    for cell in shown["cells"]:
        row = found[
            (found["guidance_weight"] == cell["weight"]) & (found["label_set"] == ["test", "new_test"][cell["file"]])
        ]
        assert cell["accuracy"][0] == pytest.approx(row[f"seed_{(0, 3)[cell['method']]}"].item(), abs=1e-6)

    states = {path: path.stat().st_mtime_ns for path in root.glob("checkpoints/digits-seed*/*.pt")}
    assert run(root, "digits", *study, "0", "3", "4") == 0
    assert states == {path: path.stat().st_mtime_ns for path in states}
    assert table(root, "study")["trainings"].eq(3).all()


REFUSED = [((1,), "give two or more"), ((2, 2), "give two or more"), ((0, -1), "-1")]


@pytest.mark.parametrize(("seeds", "message"), REFUSED)
def test_seeds_that_make_no_study_are_refused(seeds: tuple[int, ...], message: str) -> None:
    with pytest.raises(LabError, match=message):
        Experiment(seeds=seeds)


def test_a_study_takes_no_checkpoints_of_another_experiment(tmp_path: Path, mistake: Mistake) -> None:
    mistake(tmp_path, "--seeds trains denoisers", "digits", "--seeds", "0", "1", "--checkpoints-of", "other")


def test_a_cluster_gets_the_cells_of_one_run_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def on_processes(*_: object, **__: object) -> list[object]:
        done.append("on processes")
        return []

    monkeypatch.setattr(devices, "chosen_devices", lambda _: ["cuda:0", "cuda:1"])
    monkeypatch.setattr(processes, "on_processes", on_processes)
    monkeypatch.setattr(runs, "run", lambda experiment: done.append(experiment.name))
    list(runs.run_each([DIGITS]))
    assert done == ["on processes", "digits"]
    done.clear()
    list(runs.run_each([replace(DIGITS, sweep=replace(DIGITS.sweep, cluster="tcp://a:1"))]))
    assert done == ["digits"]


@pytest.mark.slow
def test_workers_train_what_one_process_trains(tmp_path: Path) -> None:
    study = [*TINY, "--training.epochs", "1", "--training.checkpoints", "1", "--seeds", "0", "3"]
    roots = [new_root(tmp_path / name) for name in ("one", "two")]
    for root, workers in zip(roots, ("1", "2"), strict=True):
        done = subprocess.run(
            command("digits", *study, "--sweep.workers", workers, "--root", str(root)),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    alone, spread = (table(root, "study") for root in roots)
    pd.testing.assert_frame_equal(alone, spread)
    for seed in (0, 3):
        checkpoints = [root / "checkpoints" / f"digits-seed{seed}" / "epoch0001.pt" for root in roots]
        weights = [load_checkpoint(path, digits().vocabulary).weights for path in checkpoints]
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    # What a worker would print stays with it, and the run prints each training's report once.
    assert done.stdout.count("report:") == 2
    assert "runs: 100%" in done.stderr


@pytest.mark.slow
def test_a_training_that_fails_on_a_worker_is_named(tmp_path: Path) -> None:
    root = new_root(tmp_path)
    taken = root / "checkpoints" / "digits-seed3"
    taken.parent.mkdir(parents=True)
    taken.write_text("a file in the place of a folder")
    done = subprocess.run(
        command("digits", *TINY, "--seeds", "0", "3", "--sweep.workers", "2", "--root", str(root)),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error:"))
    assert "digits-seed3 failed on worker" in line
