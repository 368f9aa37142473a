"""The command as a user runs it, from nothing to a report, and what mistakes get."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import run_experiments
from evaluator.classifiers import build_classifier, logits_in_batches
from evaluator.configuration import EvaluatorConfig
from evaluator.scoring import score
from evaluator.training import train_classifier
from evaluator.weights import load_evaluator
from experiments.configuration import Experiment
from experiments.stages import link_by_accuracy
from lab.checkpoints import load_checkpoint
from lab.configuration import DenoiserConfig, ScheduleConfig, TrainingConfig
from lab.datasets import digits, stratified_splits
from lab.networks import build_denoiser
from lab.schedules import noise_schedule
from lab.sweep import noise_seeds
from lab.training import Trainer

PROJECT = Path(__file__).parents[1]
TINY = shlex.split(
    "--denoiser.n-feat 8 --training.epochs 2 --training.checkpoints 2 --training.batch-size 128 "
    "--training.warmup-steps 2 --evaluator.width 4 --evaluator.epochs 3 --sampler.sampling-steps 3 "
    "--sweep.guidance-weights -1 0 2 --sweep.seeds 1"
)
CPU = torch.device("cpu")
TIMING = ["seconds", "images_per_second"]
FILES = {
    *(f"{name}.csv" for name in ("sweep", "accuracy_by_checkpoint", "ranking", "per_class", "baselines", "evaluator")),
    "training.csv", "report.md", "config.json", "accuracy_by_checkpoint.tex", "ranking.tex",
    *(f"{name}.png" for name in ("samples", "accuracy_vs_weight", "accuracy_vs_epoch", "loss", "denoising_strip")),
}  # fmt: skip


def command(*arguments: str) -> list[str]:
    return [sys.executable, str(PROJECT / "run_experiments.py"), *arguments]


def run(root: Path, *arguments: str) -> int:
    """Run a command in this process, where torch is loaded already, and return its exit status."""
    return run_experiments.main([*arguments, "--root", str(root)])


def new_root(folder: Path) -> Path:
    """Copy what of data/ is in git, and none of the images that may lie there."""
    for path in (PROJECT / "data").glob("*/*.json"):
        if path.stem in ("objects", "test", "new_test", "unseen"):
            (copy := folder / path.relative_to(PROJECT)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    return folder


def table(root: Path, name: str = "sweep", experiment: str = "digits") -> pd.DataFrame:
    return pd.read_csv(root / "reports" / experiment / f"{name}.csv")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = new_root(tmp_path_factory.mktemp("lab"))
    done = subprocess.run(command("digits", *TINY, "--root", str(root)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"report: {root / 'reports' / 'digits' / 'report.md'}"
    assert len(done.stdout.splitlines()) == 7
    return root


def test_the_report_is_complete(finished: Path) -> None:
    folder = finished / "reports" / "digits"
    assert {path.name for path in folder.iterdir()} == FILES
    page = (folder / "report.md").read_text()
    assert all(f"({name})" in page for name in FILES if name.endswith(".png"))
    best = table(finished, "ranking").iloc[0]
    for name, words in (("test", "accuracy {}"), ("new_test", "and {}")):
        told = f"{best[name]:.3f} ({best[f'{name}_low']:.3f} to {best[f'{name}_high']:.3f})"
        assert f"{words.format(told)} on {name.replace('_', chr(92) + '_')}.json" in page
    assert re.search(r"score 0\.\d{3} above the truth on test\.json, by luck alone", page)


def test_the_sweep_has_a_row_a_cell_and_its_columns(finished: Path) -> None:
    sweep = table(finished)
    assert list(sweep.columns) == shlex.split(
        "experiment checkpoint epoch step label_set guidance_method guidance_settings guidance_weight "
        "guidance_scale sampler sampling_steps network_evaluations seeds images labels correct_labels "
        "accuracy accuracy_low accuracy_high "
        "exact_match exact_match_low exact_match_high image_accuracy image_accuracy_low "
        "image_accuracy_high unasked_rate unasked_rate_low unasked_rate_high seconds images_per_second device precision"
    )
    assert len(sweep) == 2 * 2 * 3
    assert len(sweep[["checkpoint", "label_set", "guidance_weight"]].drop_duplicates()) == len(sweep)
    assert set(sweep["checkpoint"]) == {"epoch0001", "epoch0002"}
    assert (sweep["images"] == 100).all()
    assert (sweep["accuracy"] == sweep["correct_labels"] / sweep["labels"]).all()
    assert (sweep["guidance_scale"] == 1 + sweep["guidance_weight"]).all()
    assert (sweep["network_evaluations"] == sweep["guidance_weight"].map({-1: 3, 0: 3, 2: 6})).all()
    assert (sweep["accuracy_low"] <= sweep["accuracy"]).all()
    assert (sweep["accuracy"] <= sweep["accuracy_high"]).all()


def test_the_other_tables_agree_with_the_sweep(finished: Path) -> None:
    sweep, ranked, per_class = table(finished), table(finished, "ranking"), table(finished, "per_class")
    assert len(ranked) == len(table(finished, "accuracy_by_checkpoint")) == 6
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


def test_checkpoints_are_also_named_by_their_accuracies(finished: Path) -> None:
    folder, ranked = finished / "checkpoints" / "digits", table(finished, "ranking")
    named = {path.name: path for path in (folder / "by_accuracy").iterdir()}
    assert len(named) == 2
    for epoch in (1, 2):
        best = ranked[ranked["epoch"] == epoch].iloc[0]
        path = named[f"epoch{epoch}_{best['test']:.4f}_{best['new_test']:.4f}.pt"]
        assert path.samefile(folder / f"epoch000{epoch}.pt")


def test_where_files_have_no_second_names_checkpoints_are_copied(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shutil.copytree(finished, tmp_path / "copy")

    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    link_by_accuracy(Experiment(root=root), table(root, "ranking"))
    (copied,) = (root / "checkpoints" / "digits" / "by_accuracy").glob("epoch2_*.pt")
    assert copied.read_bytes() == (root / "checkpoints" / "digits" / "epoch0002.pt").read_bytes()


def test_what_was_trained_on_is_what_the_tables_say(finished: Path) -> None:
    splits = stratified_splits(digits(), evaluator_share=0.3, held_out_share=0.2, seed=0)
    evaluator = load_evaluator(finished / "checkpoints" / "digits" / "evaluator.pt", digits().vocabulary, CPU)
    logits = logits_in_batches(evaluator.classifier, splits.held_out.pixels)
    row = table(finished, "evaluator").iloc[0]
    assert (row["training_images"], row["held_out_images"]) == (len(splits.evaluator), len(splits.held_out))
    assert row["accuracy"] == pytest.approx(score(logits, splits.held_out.conditions).accuracy().value, abs=1e-6)
    # Trained again on the split that is the evaluator's, it is the same network.
    config = EvaluatorConfig(width=4, epochs=3)
    again = build_classifier(config, 1, 10, seed=0)
    list(train_classifier(again, splits.evaluator, config, seed=0))
    for name, weights in again.state_dict().items():
        torch.testing.assert_close(weights, evaluator.classifier.state_dict()[name], atol=1e-4, rtol=1e-3)


def test_a_kept_checkpoint_is_the_ema_of_a_training_on_the_generators_split(finished: Path) -> None:
    splits = stratified_splits(digits(), evaluator_share=0.3, held_out_share=0.2, seed=0)
    config = TrainingConfig(epochs=2, checkpoints=2, batch_size=128, warmup_steps=2, learning_rate=2e-3)
    denoiser = build_denoiser(DenoiserConfig(n_feat=8), (1, 8, 8), 10, ScheduleConfig(), seed=0)
    trainer = Trainer(denoiser, noise_schedule(ScheduleConfig()), splits.generator, config, seed=0)
    list(trainer.steps())
    kept = load_checkpoint(finished / "checkpoints" / "digits" / "epoch0002.pt", digits().vocabulary)
    for name, weights in trainer.ema.module.state_dict().items():
        torch.testing.assert_close(weights, kept.weights[name], atol=1e-5, rtol=1e-3)


def test_two_label_set_files_share_no_image_and_no_noise(finished: Path) -> None:
    assert set(noise_seeds("test", 5, 100)).isdisjoint(noise_seeds("new_test", 5, 100))
    cells = finished / "checkpoints" / "digits" / "cells"
    (first,), (second,) = (list(cells.glob(f"epoch0002-{name}-w-1-*.npz")) for name in ("test", "new_test"))
    one, other = (np.load(path)["pixels"] for path in (first, second))
    assert not (one == other).all(axis=(1, 2, 3)).any()


@pytest.mark.long
def test_rows_of_other_settings_stay_in_the_sweep(finished: Path, tmp_path: Path) -> None:
    root = shutil.copytree(finished, tmp_path / "copy")
    before = table(root)
    assert run(root, "digits", *TINY, "--sampler.kind", "ddim", "--sweep.guidance-weights", "2") == 0
    after = table(root)
    assert len(after) == len(before) + 2 * 2
    kept = after[after["sampler"] == "dpm_solver"].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, before)
    assert len(table(root, "ranking")) == 2


@pytest.mark.long
def test_methods_of_guidance_are_swept_like_weights(finished: Path, tmp_path: Path) -> None:
    root = shutil.copytree(finished, tmp_path / "copy")
    methods = ["plain", "interval", "schedule", "rescale", "projected", "auto", "composed"]
    arguments = ["--guidance.method", *methods, "--sweep.guidance-weights", "0", "2"]
    assert run(root, "digits", *TINY, *arguments) == 0
    sweep = table(root)
    rows = sweep[sweep["guidance_weight"].isin([0, 2])].set_index(["checkpoint", "label_set", "guidance_weight"])
    assert rows["guidance_method"].value_counts().to_dict() == dict.fromkeys(methods, 2 * 2 * 2)
    plain, auto, composed = (rows[rows["guidance_method"] == name] for name in ("plain", "auto", "composed"))
    # Digits have one label an image, so composed guidance is plain guidance; and autoguidance at 0 guides nothing.
    assert (plain["correct_labels"] == composed["correct_labels"]).all()
    assert (plain["correct_labels"] == auto["correct_labels"])[plain.index.get_level_values(2) == 0].all()
    assert set(auto["guidance_settings"]) == {"weak_checkpoint=epoch0001"}
    assert auto["network_evaluations"].groupby("guidance_weight").unique().map(list).to_dict() == {0: [3], 2: [6]}
    folder = root / "reports" / "digits"
    assert {path.name for path in folder.iterdir()} == FILES | {"accuracy_by_method.png", "samples_by_method.png"}
    assert "(samples_by_method.png)" in (folder / "report.md").read_text()
    # The rows of the plain sweep before are as they were.
    before, settings = sweep[sweep["guidance_method"] == "plain"].reset_index(drop=True), "guidance_settings"
    pd.testing.assert_frame_equal(before.drop(columns=settings), table(finished).drop(columns=settings))


def test_the_remedy_of_an_error_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = new_root(tmp_path)
    assert run(root, "digits", *TINY, "--denoiser.pool", "7") == 2
    assert "--denoiser.pool is 7" in capsys.readouterr().err
    assert not (root / "checkpoints").exists()


def test_a_schedule_that_ends_short_of_noise_is_warned_of_at_once(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished / "data", tmp_path / "data")
    shutil.copytree(finished / "checkpoints", tmp_path / "checkpoints")
    assert run(tmp_path, "digits", *TINY, "--schedule.kind", "linear") == 2
    error = capsys.readouterr().err
    assert "leaves alpha_bar_T = 0.017 of the signal variance" in error
    assert "training.pt is of another configuration: schedule.kind is cosine there, linear here" in error


@pytest.mark.parametrize("name", ["epoch", "rank", "test_low"])
def test_a_label_set_file_may_not_be_called_as_a_column(finished: Path, mistake: "Mistake", name: str) -> None:
    files = ["data/digits/test.json", f"data/digits/{name}.json"]
    mistake(finished, f"{name!r} is the name of a column", "digits", *TINY, "--data.label-sets", *files)


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("checkpoints/digits/evaluator.pt", "evaluator.pt: this evaluator is damaged or not a torch file"),
        ("checkpoints/digits/training.pt", "training.pt: this training state is damaged or not a torch file"),
        ("reports/digits/config.json", "config.json: no configuration of this lab"),
    ],
)
def test_garbage_in_a_file_is_told_and_left(
    finished: Path, tmp_path: Path, mistake: "Mistake", file: str, told: str
) -> None:
    root = shutil.copytree(finished, tmp_path / "copy")
    (root / file).write_bytes(b"\x00garbage")
    mistake(root, told, "digits", *TINY)


@pytest.mark.long
def test_a_report_that_was_cut_off_is_made_again(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shutil.copytree(finished, tmp_path / "copy")
    shutil.rmtree(root / "reports")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("evaluator.figures.loss_curve", interrupt)
        assert run(root, "digits", *TINY) == 130
    assert not (root / "reports" / "digits" / "report.md").exists()
    assert run(root, "digits", *TINY) == 0
    pd.testing.assert_frame_equal(table(root), table(finished))


def test_a_damaged_cell_is_told_and_left(finished: Path, tmp_path: Path, mistake: "Mistake") -> None:
    root = shutil.copytree(finished, tmp_path / "copy")
    cell = min((root / "checkpoints" / "digits" / "cells").iterdir())
    cell.write_bytes(cell.read_bytes()[:-100])
    mistake(root, f"{cell}: this sweep cell is damaged", "digits", *TINY)


@pytest.mark.long
def test_what_is_finished_is_not_computed_again(finished: Path, tmp_path: Path) -> None:
    root = shutil.copytree(finished, tmp_path / "copy")
    folder = root / "checkpoints" / "digits"
    rows, kept = (
        table(root),
        {path: path.stat().st_mtime_ns for path in (*folder.glob("*.pt"), *folder.glob("cells/*"))},
    )
    assert run(root, "digits", *TINY, "--sweep.guidance-weights", "-1", "0", "1", "2") == 0
    wider = table(root)
    assert len(wider) == len(rows) * 4 / 3
    # Timing columns and all: the rows of an earlier run are what it wrote, and so are its files.
    pd.testing.assert_frame_equal(wider[wider["guidance_weight"] != 1].reset_index(drop=True), rows)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    added = {*folder.glob("*.pt"), *folder.glob("cells/*")} - set(kept)
    assert len(added) == len(rows) / 3
    assert all(path.name.split("-")[2] == "w1" for path in added)


@pytest.mark.long
def test_the_batch_changes_no_accuracy(finished: Path, tmp_path: Path) -> None:
    root = shutil.copytree(finished, tmp_path / "copy")
    shutil.rmtree(root / "checkpoints" / "digits" / "cells")
    assert run(root, "digits", *TINY, "--sweep.batch-size", "33") == 0
    pd.testing.assert_frame_equal(table(root).drop(columns=TIMING), table(finished).drop(columns=TIMING))


@pytest.mark.long
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
    assert run(root, "digits", *TINY) == 0
    pd.testing.assert_frame_equal(table(root).drop(columns=TIMING), table(finished).drop(columns=TIMING))


@pytest.mark.long
def test_a_folder_of_scenes_goes_all_the_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, labels = tmp_path / "shapes", {}
    folder.mkdir()
    for scene in range(40):
        for image in range(2):
            labels[f"scene_{scene}_{image}.png"] = ["red", "green"][: 1 + image]
            Image.new("RGBA", (32, 24), (255, 255 * image, scene)).save(folder / f"scene_{scene}_{image}.png")
    for name, content in {
        "objects": {"green": 0, "red": 1}, "train": labels, "test": [["red"], ["red", "green"]], "more": [["green"]],
    }.items():  # fmt: skip
        (folder / f"{name}.json").write_text(json.dumps(content))
    arguments = shlex.split(
        "digits --name shapes --data.dataset scenes --data.folder shapes --data.image-size 8 "
        "--data.label-sets shapes/test.json shapes/more.json"
    )
    assert run(tmp_path, *arguments, *TINY) == 0
    sweep = table(tmp_path, experiment="shapes")
    assert set(zip(sweep["label_set"], sweep["images"], sweep["labels"], strict=True)) == {
        ("test", 2, 3), ("more", 1, 1),
    }  # fmt: skip
    evaluator = table(tmp_path, "evaluator", "shapes").iloc[0]
    assert (evaluator["training_images"], evaluator["held_out_images"]) == (24, 16)
    (folder / "scene_7_1.png").unlink()
    assert run(tmp_path, *arguments, *TINY) == 2
    assert "1 of 80 images cannot be used: 1 missing\nthe first is 'scene_7_1.png'" in capsys.readouterr().err


Mistake = Callable[..., None]


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


@pytest.mark.parametrize(
    ("told", "arguments"),
    [
        ("unknown preset 'digit'; did you mean 'digits'?", "digit"),
        ("--schedule.timesteps is 0; allowed is a finite number, 2 to 100000", "--schedule.timesteps 0"),
        ("--sweep.guidance-weights is nan; allowed is a finite number, -1 to 100", "--sweep.guidance-weights nan"),
        ("--sweep.guidance-weights is -2.0", "--sweep.guidance-weights 0 -2"),
        ("--sweep.guidance-weights holds 2 twice", "--sweep.guidance-weights 2 2"),
        ("--sampler.sampling-steps is 500; allowed is at most", "--sampler.sampling-steps 500"),
        ("--guidance.method plus_plus is defined for deterministic DDIM; add", "--guidance.method plus_plus"),
        ("--guidance.method holds auto twice", "--guidance.method auto auto"),
        ("--sampler.eta is 1, which only --sampler.kind ddim uses", "--sampler.eta 1"),
        ("--device is 'cuda:7', which is not on this machine; here are: auto", "--device cuda:7"),
        ("--name is '../x'", "--name ../x"),
        ("no train.json, which names the images; copy i-CLEVR's files, give --data.folder", "iclevr-small"),
        ("no such label-set file; did you mean 'test.json'?", "--data.label-sets data/digits/tset.json"),
        ("two files called 'test'", "--data.label-sets a/test.json b/test.json"),
        ("config.json is of another configuration: training.epochs is 2 there, 7 here", "--training.epochs 7"),
    ],
)
def test_mistakes_are_told_in_two_lines_and_change_nothing(
    finished: Path, mistake: Mistake, told: str, arguments: str
) -> None:
    first, *rest = arguments.split()
    preset = [first] if not first.startswith("-") else ["digits", *TINY, first]
    mistake(finished, told, *preset, *rest)


def test_bad_files_are_named_and_nothing_is_overwritten(finished: Path, tmp_path: Path, mistake: Mistake) -> None:
    root = shutil.copytree(finished, tmp_path / "copy")
    labels = root / "data" / "digits" / "test.json"
    labels.write_text('[["7"], ["seven"]]')
    mistake(root, f"{labels}, label set 2 of 2: unknown class 'seven'", "digits", *TINY)
    shutil.copy(PROJECT / "data" / "digits" / "test.json", labels)
    objects = root / "data" / "digits" / "objects.json"
    objects.write_text(json.dumps({name: 9 - int(name) for name in "0123456789"}))
    mistake(root, "class 0 is '0', but objects.json calls it '9'", "digits", *TINY)
    shutil.copy(PROJECT / "data" / "digits" / "objects.json", objects)


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
