"""Ablations: the table against hand-made rankings, and the command as a user runs it."""

import math
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

import run_experiments
from evaluator.reporting.ablation import UNCHANGED, ablation_table, mean_interval
from experiments.ablation import changed
from experiments.presets import ABLATIONS, PRESETS
from lab.configuration.networks import ContextUnetConfig
from lab.errors import LabError

PROJECT = Path(__file__).parents[1]


def test_the_interval_of_a_mean_is_student_s() -> None:
    # Student's t for two degrees of freedom has a closed form: t = (2 p - 1) sqrt(2 / (4 p (1 - p))), p = 0.975.
    mean, low, high = mean_interval([1.0, 2.0, 6.0])
    half = 0.95 * math.sqrt(2 / (4 * 0.975 * 0.025)) * math.sqrt(7) / math.sqrt(3)
    assert (mean, low, high) == pytest.approx((3, 3 - half, 3 + half))


def rankings(*accuracies: tuple[float, float]) -> list[pd.DataFrame]:
    """Return a ranking for each seed, with a worse row below its best."""
    return [pd.DataFrame({"test": [test, 0.0], "other": [other, 1.0]}) for test, other in accuracies]


def test_variants_are_compared_seed_by_seed_and_the_best_stands_first() -> None:
    table = ablation_table(
        {UNCHANGED: rankings((0.5, 0.4), (0.7, 0.6)), "better": rankings((0.6, 0.4), (0.8, 0.8))}, ["test", "other"]
    )
    assert table["variant"].tolist() == ["better", "better", UNCHANGED, UNCHANGED]
    assert table["label_set"].tolist() == ["test", "other"] * 2
    assert table["accuracy"].tolist() == pytest.approx([0.7, 0.6, 0.6, 0.5])
    # 0.1 more in either seed: a difference without spread, though the accuracies spread.
    best = table.iloc[0]
    assert (best["difference"], best["difference_low"], best["difference_high"]) == pytest.approx((0.1, 0.1, 0.1))
    assert best["accuracy_low"] == 0
    assert best["accuracy_high"] == 1
    assert (best["accuracy_1"], best["accuracy_2"]) == (0.6, 0.8)
    assert table.iloc[2]["difference"] == 0


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_change_of_an_ablation_changes_something(name: str) -> None:
    experiment = PRESETS[name][1]
    assert isinstance(experiment.denoiser, ContextUnetConfig)
    for changes in ABLATIONS[name].values():
        assert changed(experiment, changes) != experiment
    with pytest.raises(LabError, match="already has the settings of its variant"):
        changed(experiment, {"denoiser": {"activation": experiment.denoiser.activation}})


@pytest.mark.slow
def test_an_ablation_is_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(PROJECT / "data" / "digits", tmp_path / "data" / "digits")
    tiny = shlex.split(
        "--name tiny --data.dataset digits --data.image-size 0 --data.label-sets data/digits/test.json "
        "data/digits/new_test.json --denoiser.n-feat 8 --denoiser.pool 0 --training.epochs 1 --training.checkpoints 1 "
        "--evaluator.kind conv --evaluator.width 4 --evaluator.epochs 1 --sampler.sampling-steps 2 "
        "--sweep.guidance-weights 0"
    )
    assert run_experiments.main(["iclevr-ablation", *tiny, "--root", str(tmp_path)]) == 0
    table = pd.read_csv(tmp_path / "reports" / "tiny" / "ablation.csv")
    assert set(table["variant"]) == {UNCHANGED, *ABLATIONS["iclevr-ablation"]}
    assert (table["seeds"] == 3).all()
    for _, row in table.iterrows():
        for seed in range(3):
            run = tmp_path / "reports" / f"tiny-{row['variant'].replace(' ', '-')}-seed{seed}"
            assert pd.read_csv(run / "ranking.csv").iloc[0][row["label_set"]] == row[f"accuracy_{seed + 1}"]
    # One evaluator judges them all, and the seeds are different trainings.
    evaluators = list((tmp_path / "checkpoints").rglob("evaluator.pt"))
    assert evaluators == [tmp_path / "checkpoints" / "tiny" / "evaluator.pt"]
    losses = {path.read_text() for path in (tmp_path / "reports").glob("tiny-unchanged-*/training.csv")}
    assert len(losses) == 3
    with Image.open(tmp_path / "reports" / "tiny" / "ablation.png") as figure:
        assert figure.width == 975
    assert (tmp_path / "reports" / "tiny" / "config.json").exists()
    capsys.readouterr()
    before = (tmp_path / "reports" / "tiny" / "ablation.csv").read_bytes()
    assert run_experiments.main(["iclevr-ablation", *tiny, "--root", str(tmp_path)]) == 0
    assert (tmp_path / "reports" / "tiny" / "ablation.csv").read_bytes() == before
