"""The command as a user runs it, from nothing to a report, and what mistakes get."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

PROJECT = Path(__file__).parents[1]
TINY = (
    "--denoiser.n-feat 8 --training.epochs 4 --training.batch-size 128 --training.warmup-steps 2 --evaluator.width 4 "
    "--evaluator.epochs 3 --sampler.sampling-steps 3 --sweep.guidance-weights -1 0 2 --sweep.seeds 2"
).split()
TIMING = ["seconds", "images_per_second"]
FILES = {
    *(f"{name}.csv" for name in ("sweep", "accuracy_by_checkpoint", "ranking", "per_class", "baselines", "evaluator")),
    "training.csv", "report.md", "config.json", "accuracy_by_checkpoint.tex", "ranking.tex",
    *(f"{name}.png" for name in ("samples", "accuracy_vs_weight", "accuracy_vs_epoch", "loss", "denoising_strip")),
}  # fmt: skip


def command(*arguments: str) -> list[str]:
    return [sys.executable, str(PROJECT / "run_experiments.py"), *arguments]


def run(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command(*arguments, "--root", str(root)), capture_output=True, text=True, check=False)


def new_root(folder: Path) -> Path:
    shutil.copytree(PROJECT / "data", folder / "data")
    return folder


def table(root: Path, name: str = "sweep", experiment: str = "digits") -> pd.DataFrame:
    return pd.read_csv(root / "reports" / experiment / f"{name}.csv")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = new_root(tmp_path_factory.mktemp("lab"))
    done = run(root, "digits", *TINY)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"report: {root / 'reports' / 'digits' / 'report.md'}"
    assert len(done.stdout.splitlines()) == 7
    return root


def test_the_report_is_complete(finished: Path) -> None:
    folder = finished / "reports" / "digits"
    assert {path.name for path in folder.iterdir()} == FILES
    page = (folder / "report.md").read_text()
    assert all(f"({name})" in page for name in FILES if name.endswith(".png"))


def test_the_sweep_has_a_row_a_cell_and_its_columns(finished: Path) -> None:
    sweep = table(finished)
    assert (
        list(sweep.columns)
        == (
            "experiment checkpoint epoch step label_set guidance_method guidance_weight guidance_scale sampler "
            "sampling_steps network_evaluations seeds images labels correct_labels accuracy accuracy_low accuracy_high "
            "exact_match exact_match_low exact_match_high seconds images_per_second device precision"
        ).split()
    )
    assert len(sweep) == 4 * 2 * 3
    assert len(sweep[["checkpoint", "label_set", "guidance_weight"]].drop_duplicates()) == len(sweep)
    assert set(sweep["checkpoint"]) == {"epoch0001", "epoch0002", "epoch0003", "epoch0004"}
    assert (sweep["images"] == 200).all()
    assert (sweep["accuracy"] == sweep["correct_labels"] / sweep["labels"]).all()
    assert (sweep["guidance_scale"] == 1 + sweep["guidance_weight"]).all()
    assert (sweep["network_evaluations"] == sweep["guidance_weight"].map({-1: 3, 0: 3, 2: 6})).all()
    assert (sweep["accuracy_low"] <= sweep["accuracy"]).all()
    assert (sweep["accuracy"] <= sweep["accuracy_high"]).all()


def test_the_other_tables_agree_with_the_sweep(finished: Path) -> None:
    sweep, ranked, per_class = table(finished), table(finished, "ranking"), table(finished, "per_class")
    assert len(ranked) == len(table(finished, "accuracy_by_checkpoint")) == 12
    assert ranked["test"].is_monotonic_decreasing
    for _, row in ranked.iterrows():
        of_row = sweep[
            (sweep["checkpoint"] == row["checkpoint"]) & (sweep["guidance_weight"] == row["guidance_weight"])
        ]
        assert dict(zip(of_row["label_set"], of_row["accuracy"], strict=True)) == {
            "test": row["test"], "new_test": row["new_test"],
        }  # fmt: skip
    keys = ["checkpoint", "label_set", "guidance_weight"]
    assert (per_class.groupby(keys)["correct"].sum() == sweep.set_index(keys)["correct_labels"].sort_index()).all()
    assert set(table(finished, "baselines")["baseline"]) == {
        "real held-out images", "unconditional", "label sets shuffled",
    }  # fmt: skip


def test_a_second_run_computes_nothing_again(finished: Path) -> None:
    kept = sorted((finished / "checkpoints").rglob("*.*"))
    before = [path.stat().st_mtime_ns for path in kept if path.name != "config.json"]
    rows = table(finished)
    assert run(finished, "digits", *TINY).returncode == 0
    assert sorted((finished / "checkpoints").rglob("*.*")) == kept
    assert [path.stat().st_mtime_ns for path in kept if path.name != "config.json"] == before
    pd.testing.assert_frame_equal(table(finished), rows)


def test_another_weight_runs_its_own_cells_only(finished: Path, tmp_path: Path) -> None:
    root = shutil.copytree(finished, tmp_path / "copy")
    rows = table(root)
    assert run(root, "digits", *TINY, "--sweep.guidance-weights", "-1", "0", "1", "2").returncode == 0
    wider = table(root)
    assert len(wider) == 4 * 2 * 4
    pd.testing.assert_frame_equal(wider[wider["guidance_weight"] != 1].reset_index(drop=True), rows)


def test_the_same_seed_gives_the_same_tables_whatever_the_batch(finished: Path, tmp_path: Path) -> None:
    root = new_root(tmp_path)
    assert run(root, "digits", *TINY, "--sweep.batch-size", "33").returncode == 0
    pd.testing.assert_frame_equal(table(root).drop(columns=TIMING), table(finished).drop(columns=TIMING))


def test_an_interrupted_training_goes_on_to_the_same_bits(finished: Path, tmp_path: Path) -> None:
    root = new_root(tmp_path)
    process = subprocess.Popen(
        command("digits", *TINY, "--root", str(root)),
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "80"},
    )
    first = root / "checkpoints" / "digits" / "epoch0001.pt"
    while not first.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate()
    assert process.returncode == 130
    assert "the same command goes on from there" in told
    assert "Traceback" not in told
    assert run(root, "digits", *TINY).returncode == 0
    pd.testing.assert_frame_equal(table(root).drop(columns=TIMING), table(finished).drop(columns=TIMING))


def mistake(root: Path, told: str, *arguments: str) -> None:
    """Check that a command ends with status 2, a short message that says this, and no file changed."""
    before = {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
    done = run(root, *arguments)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2
    assert {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()} == before


def test_mistakes_are_told_in_two_lines_and_change_nothing(finished: Path) -> None:
    mistake(finished, "unknown preset 'digit'; did you mean 'digits'?", "digit")
    mistake(finished, "--schedule.timesteps is 0; allowed is", "--schedule.timesteps", "0")
    mistake(finished, "--sweep.guidance-weights is nan", "--sweep.guidance-weights", "nan")
    mistake(finished, "--sweep.guidance-weights is -2", "--sweep.guidance-weights", "-2")
    mistake(finished, "--sampler.sampling-steps is 500", "--sampler.sampling-steps", "500")
    mistake(finished, "--device is 'cuda:7', which is not on this machine", "--device", "cuda:7")
    mistake(finished, "--name is '../x'", "--name", "../x")
    mistake(finished, "no such label-set file; did you mean", "--data.label-sets", "data/digits/tset.json")
    mistake(finished, "two files called 'test'", "--data.label-sets", "a/test.json", "b/test.json")
    mistake(finished, "training.epochs is 4 there and 90 here", "digits")


def test_bad_files_are_named_and_nothing_is_overwritten(finished: Path, tmp_path: Path) -> None:
    root = shutil.copytree(finished, tmp_path / "copy")
    labels = root / "data" / "digits" / "test.json"
    labels.write_text('[["7"], ["seven"]]')
    mistake(root, f"{labels}, label set 2 of 2: unknown class 'seven'", "digits", *TINY)
    shutil.copy(PROJECT / "data" / "digits" / "test.json", labels)
    objects = root / "data" / "digits" / "objects.json"
    objects.write_text(json.dumps({name: 9 - int(name) for name in "0123456789"}))
    mistake(root, "class 0 is '0', but objects.json calls it '9'", "digits", *TINY)
    shutil.copy(PROJECT / "data" / "digits" / "objects.json", objects)
    (root / "checkpoints" / "digits" / "evaluator.pt").write_bytes(b"x")
    mistake(root, "evaluator.pt: this evaluator is damaged or not a torch file", "digits", *TINY)


def test_help_answers_without_torch_and_a_typo_is_met_with_the_nearest_field() -> None:
    told = subprocess.run(command("--help"), capture_output=True, text=True, check=True).stdout
    assert "--sweep.guidance-weights" in told
    imported = (
        "import sys, run_experiments as r\ntry: r.main(['--help'])\nexcept SystemExit: print('torch' in sys.modules)"
    )
    late = subprocess.run([sys.executable, "-c", imported], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert late.stdout.splitlines()[-1] == "False"
    typo = subprocess.run(command("--training.epoch", "3"), capture_output=True, text=True, check=False)
    assert typo.returncode == 2
    assert "--training.epochs" in typo.stderr
