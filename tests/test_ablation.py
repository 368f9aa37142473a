"""Ablations: the table against hand-made accuracies, and the command as a user runs it."""

import math
import shutil
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

import run_experiments
from evaluator.reporting.ablation import ablation_table, above_half, by_variant, mean_interval
from evaluator.reporting.printed import PRINTED, PrintedResult
from experiments.ablation import changed
from experiments.presets import ABLATIONS, PRESETS
from lab.configuration.networks import ContextUnetConfig
from lab.errors import LabError
from tests.command import COURSEWORK_ON_DIGITS, PROJECT, Mistake
from tests.pages import contents_of


def test_the_interval_of_a_mean_is_student_s() -> None:
    # Student's t for two degrees of freedom has a closed form: t = (2 p - 1) sqrt(2 / (4 p (1 - p))), p = 0.975.
    mean, low, high = mean_interval([1.0, 2.0, 6.0])
    half = 0.95 * math.sqrt(2 / (4 * 0.975 * 0.025)) * math.sqrt(7) / math.sqrt(3)
    assert (mean, low, high) == pytest.approx((3, 3 - half, 3 + half))


def seeds_of(*curves: list[tuple[float, float]], losses: tuple[float, ...] = (0.3, 0.2)) -> list[pd.DataFrame]:
    """Return the accuracies by epoch of some seeds, each a pair (test, other) for epoch 1, 2, ..."""
    return [
        pd.DataFrame(
            {"epoch": range(1, len(curve) + 1), "step": 0, "loss": losses}
            | {name: [pair[place] for pair in curve] for place, name in enumerate(("test", "other"))}
        )
        for curve in curves
    ]


ACCURACIES = {
    "GELU": seeds_of([(0.5, 0.4), (0.4, 0.6)], [(0.7, 0.6), (0.6, 0.5)]),
    "ReLU": seeds_of([(0.6, 0.4), (0.5, 0.5)], [(0.6, 0.8), (0.7, 0.5)], losses=(0.2, 0.1)),
}
FILES = ["test", "other"]
SOURCE = [PrintedResult("ReLU", 399, 0.001, {"test": 0.25}, above_half=(3, 4))]


def test_variants_are_compared_seed_by_seed_at_the_last_epoch_and_at_the_best() -> None:
    table = ablation_table(by_variant(ACCURACIES, FILES), FILES, SOURCE)
    columns = ["variant", "at", "epoch", "seeds", "loss", "test", "other"]
    # The best epoch of ReLU is a tie, 0.6 on average at both; the last counts.
    assert table[columns].iloc[:4].to_numpy().tolist() == [
        ["GELU", "last", 2, 2, 0.2, pytest.approx(0.5), 0.55],
        ["GELU", "best", 1, 2, 0.3, pytest.approx(0.6), 0.5],
        ["ReLU", "last", 2, 2, 0.1, pytest.approx(0.6), 0.5],
        ["ReLU", "best", 2, 2, 0.1, pytest.approx(0.6), 0.5],
    ]
    last, best, printed = table.iloc[2], table.iloc[3], table.iloc[4]
    # 0.1 more in either seed: a difference without spread, though the accuracies spread.
    ends = ("", "_low", "_high")
    assert [last[f"test_difference{end}"] for end in ends] == pytest.approx([0.1, 0.1, 0.1])
    # Against the unchanged experiment's best epoch: 0.5 - 0.5 and 0.7 - 0.7.
    assert [best[f"test_difference{end}"] for end in ends] == pytest.approx([0, 0, 0])
    assert last["other_difference"] == pytest.approx(-0.05)
    assert (last["test_low"], last["test_high"]) == (0, 1)
    assert table.loc[table["variant"] == "GELU"].filter(like="difference").isna().all(axis=None)
    assert (printed["variant"], printed["at"], printed["epoch"], printed["loss"]) == ("ReLU", PRINTED, 399, 0.001)
    assert printed["test"] == 0.25
    assert printed[["other", "test_low", "test_difference"]].isna().all()


def test_the_checkpoints_above_one_half_are_those_of_the_last_quarter() -> None:
    early, late = [(0.9, 0.0)] * 6, [(0.5, 0.0), (0.6, 0.0)]
    rows = by_variant({"GELU": seeds_of(early + late, early + late[::-1], losses=(0.1,) * 8)}, FILES)
    told = above_half(rows, FILES, SOURCE).to_numpy().tolist()
    assert told == [["GELU", 4, 2, "0.50"], [f"ReLU, {PRINTED}", 4, 3, "0.75"]]


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_change_of_an_ablation_changes_something(name: str) -> None:
    experiment = PRESETS[name][1]
    assert isinstance(experiment.denoiser, ContextUnetConfig)
    every = [experiment, *(changed(experiment, changes) for changes in ABLATIONS[name].variants.values())]
    assert all(every.count(one) == 1 for one in every)
    with pytest.raises(LabError, match="already has the settings of its variant"):
        changed(experiment, {"denoiser": {"activation": experiment.denoiser.activation}})


def test_the_coursework_s_runs_are_to_the_letter() -> None:
    experiment = PRESETS["iclevr-ablation"][1]
    variants = {name: changed(experiment, changes) for name, changes in ABLATIONS["iclevr-ablation"].variants.items()}
    constant = {"ReLU", "cyclic without decay"}
    for name, variant in ({"GELU": experiment} | variants).items():
        assert variant.training.epochs == 400
        assert variant.training.kept_epochs == list(range(5, 401, 5))
        assert (variant.training.decay == "none") == (name in constant | {"GELU"})
        assert asdict(variant.schedule)["extra_beta"]
        assert (variant.schedule.kind == "cyclic_cosine") == name.startswith("cyclic")


def test_an_ablation_without_w_0_is_refused(tmp_path: Path, mistake: Mistake) -> None:
    mistake(tmp_path, "compares its variants at w = 0", "iclevr-ablation", "--sweep.guidance-weights", "1")


def test_a_teacher_whose_network_the_variants_would_have_is_refused(tmp_path: Path, mistake: Mistake) -> None:
    told = "--distillation.teacher decides the network, which the variants of an ablation change; remove it"
    mistake(tmp_path, told, "iclevr-ablation", "--distillation.teacher", "x.pt")


@pytest.mark.slow
def test_an_ablation_is_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(PROJECT / "data" / "digits", tmp_path / "data" / "digits")
    tiny = [*COURSEWORK_ON_DIGITS, "--name", "tiny"]
    assert run_experiments.main(["iclevr-ablation", *tiny, "--root", str(tmp_path)]) == 0
    folder = tmp_path / "reports" / "tiny"
    table, rows = (pd.read_csv(folder / f"{name}.csv") for name in ("ablation", "accuracy_by_epoch"))
    variants = ["GELU", *ABLATIONS["iclevr-ablation"].variants]
    assert table["variant"].tolist() == [name for name in variants for _ in range(2)] + ["GELU", "ReLU", variants[2]]
    measured = table[table["at"] != PRINTED]
    assert (measured["seeds"] == 3).all()
    assert table[table["at"] == PRINTED]["new_test"].tolist() == [0.619, 0.619, 0.4881]
    for variant in variants:
        for seed in range(3):
            run = tmp_path / "reports" / f"tiny-{variant.replace(' ', '-')}-seed{seed}"
            own = rows[(rows["variant"] == variant) & (rows["seed"] == seed + 1)].reset_index(drop=True)
            columns = ["epoch", "loss", "test", "new_test"]
            pd.testing.assert_frame_equal(own[columns], pd.read_csv(run / "accuracy_by_epoch.csv")[columns])
    last = measured[measured["at"] == "last"].set_index("variant")
    expected = rows[rows["epoch"] == 2].groupby("variant")["test"].mean()
    assert last["test"].to_dict() == pytest.approx(expected.to_dict(), abs=1e-5)
    # One evaluator judges them all, and the seeds are different trainings.
    evaluators = list((tmp_path / "checkpoints").rglob("evaluator.pt"))
    assert evaluators == [tmp_path / "checkpoints" / "tiny" / "evaluator.pt"]
    losses = {path.read_text() for path in (tmp_path / "reports").glob("tiny-GELU-*/training.csv")}
    assert len(losses) == 3
    with Image.open(folder / "accuracy_vs_epoch.png") as figure:
        assert figure.width == 975
    page = (folder / "ablation.md").read_text(encoding="utf-8")
    (source,) = (line for line in page.splitlines() if line.startswith(f"| ReLU, {PRINTED}"))
    assert [cell.strip() for cell in source.split("|")[2:5]] == ["17", "13", "0.76"]
    assert (folder / "config.json").exists()
    shown = contents_of(folder / "report.html")
    assert (shown["compared"], shown["methods"]) == ("variant", variants)
    assert [each["epoch"] for each in shown["checkpoints"]] == [1, 2]
    capsys.readouterr()
    before = (folder / "ablation.csv").read_bytes()
    assert run_experiments.main(["iclevr-ablation", *tiny, "--root", str(tmp_path)]) == 0
    assert (folder / "ablation.csv").read_bytes() == before
