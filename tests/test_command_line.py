"""The command as a user runs it, from nothing to a report; test_mistakes.py has what mistakes get."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from evaluator.classifiers.networks import build_classifier, logits_in_batches
from evaluator.classifiers.pictures import numbered_pictures
from evaluator.classifiers.training import train_classifier
from evaluator.classifiers.weights import load_evaluator
from evaluator.configuration import EvaluatorConfig
from evaluator.judging.scoring import score
from experiments.configuration import Experiment
from experiments.reporting import link_by_accuracy
from lab.configuration.diffusion import CosineScheduleConfig
from lab.configuration.networks import ContextUnetConfig
from lab.configuration.training import TrainingConfig
from lab.data.datasets import digits, stratified_splits
from lab.machine.computation import Computation
from lab.sweep.cells import noise_seeds
from lab.training.checkpoints import load_checkpoint
from lab.training.recipe import Recipe
from lab.training.trainer import Trainer
from tests.command import CPU, FILES, TIMING, TINY, command, new_root, run, table


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def precision(request: pytest.FixtureRequest) -> str:
    """Every test here runs in both, on machines with bfloat16 units and without."""
    return str(request.param)


def test_the_report_is_complete(finished: Path) -> None:
    folder = finished / "reports" / "digits"
    assert {path.name for path in folder.iterdir()} == FILES
    page = (folder / "report.md").read_text()
    assert all(f"({name})" in page for name in FILES if name.endswith(".png"))
    best = table(finished, "ranking").iloc[0]
    for name, words in (("test", "accuracy {}"), ("new_test", "and {}")):
        told = f"{best[name]:.3f} ({best[f'{name}_low']:.3f} to {best[f'{name}_high']:.3f})"
        assert f"{words.format(told)} on {name.replace('_', chr(92) + '_')}.json" in page
    assert re.search(r"accuracy on test\.json would still be 0\.\d{3} too high on average", page)


def test_the_finished_report_has_the_images_of_both_files(finished: Path) -> None:
    folder, best = finished / "reports" / "digits", table(finished, "ranking").iloc[0]
    page = (folder / "report.md").read_text(encoding="utf-8")
    for name in ("test", "new_test"):
        cells = finished / "checkpoints" / "digits" / "cells"
        (cell,) = cells.glob(f"{best['checkpoint']}-{name}-w{best['guidance_weight']:g}-plain-*")
        pixels = torch.from_numpy(np.load(cell)["pixels"])
        assert torch.equal(numbered_pictures(folder / "images" / name, 100, (1, 8, 8)), pixels)
        assert len(list((folder / "images" / name).iterdir())) == 100
        right, shown = round(100 * best[name]), name.replace("_", r"\_")
        assert f"All 100 images of {shown}.json at the best row" in page
        assert f"The evaluator sees {right} of 100 labels" in page
        assert f"hand in: images/{shown}/0.png to 99.png." in page
        with Image.open(folder / f"images_{name}.png") as picture:
            assert picture.width > 1000
        assert (folder / f"images_{name}.png").stat().st_size < 200_000


def test_the_sweep_has_a_row_a_cell_and_its_columns(finished: Path, precision: str) -> None:
    sweep = table(finished)
    assert list(sweep.columns) == shlex.split(
        "experiment checkpoint epoch step ema_length label_set guidance_method guidance_settings guidance_weight "
        "guidance_scale effective_guidance_scale guidance_warning "
        "sampler sampling_steps network_evaluations seeds images labels correct_labels "
        "accuracy accuracy_low accuracy_high "
        "exact_match exact_match_low exact_match_high image_accuracy image_accuracy_low "
        "image_accuracy_high unasked_rate unasked_rate_low unasked_rate_high seconds warm_up_seconds "
        "images_per_second device precision guide_evaluations"
    )
    assert len(sweep) == 2 * 2 * 3
    assert len(sweep[["checkpoint", "label_set", "guidance_weight"]].drop_duplicates()) == len(sweep)
    assert set(sweep["checkpoint"]) == {"epoch0001", "epoch0002"}
    assert (sweep["images"] == 100).all()
    assert (sweep["accuracy"] == sweep["correct_labels"] / sweep["labels"]).all()
    assert (sweep["guidance_scale"] == 1 + sweep["guidance_weight"]).all()
    assert ((sweep["effective_guidance_scale"] - sweep["guidance_scale"]).abs() < 1e-3).all()
    assert (sweep["network_evaluations"] == sweep["guidance_weight"].map({-1: 3, 0: 3, 2: 6})).all()
    assert (sweep["accuracy_low"] <= sweep["accuracy"]).all()
    assert (sweep["accuracy"] <= sweep["accuracy_high"]).all()
    assert (sweep["precision"] == precision).all()


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


def test_a_kept_checkpoint_is_the_ema_of_a_training_on_the_generators_split(finished: Path, precision: str) -> None:
    splits = stratified_splits(digits(), evaluator_share=0.3, held_out_share=0.2, seed=0)
    config = TrainingConfig(epochs=2, checkpoints=2, batch_size=128, warmup_steps=2, learning_rate=2e-3)
    recipe = Recipe(ContextUnetConfig(n_feat=8), CosineScheduleConfig(), config, seed=0)
    trainer = Trainer(recipe, splits.generator, Computation(precision=precision))
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
def test_methods_of_guidance_are_swept_like_weights(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(finished, tmp_path / "copy")
    methods = ["plain", "interval", "schedule", "rescale", "projected", "auto", "composed"]
    methods += ["zero_star", "tangential", "magnitude"]
    arguments = ["--guidance.method", *methods, "--sweep.guidance-weights", "0", "2"]
    assert run(root, "digits", *TINY, *arguments) == 0
    sweep = table(root)
    rows = sweep[sweep["guidance_weight"].isin([0, 2])].set_index(["checkpoint", "label_set", "guidance_weight"])
    # The first checkpoint cannot guide itself.
    counts = dict.fromkeys(methods, 2 * 2 * 2) | {"auto": 2 * 2}
    assert rows["guidance_method"].value_counts().to_dict() == counts
    plain, auto, composed = (rows[rows["guidance_method"] == name] for name in ("plain", "auto", "composed"))
    # Digits have one label an image, so composed guidance is plain guidance; and autoguidance at 0 guides nothing.
    assert (plain["correct_labels"] == composed["correct_labels"]).all()
    assert set(auto.index.get_level_values(0)) == {"epoch0002"}
    of_same = plain.loc[auto.index]
    assert (of_same["correct_labels"] == auto["correct_labels"])[auto.index.get_level_values(2) == 0].all()
    assert "epoch0001 is the weak checkpoint and cannot guide itself" in capsys.readouterr().err
    assert set(auto["guidance_settings"]) == {"weak_checkpoint=epoch0001"}
    assert auto["network_evaluations"].groupby("guidance_weight").unique().map(list).to_dict() == {0: [3], 2: [6]}
    folder = root / "reports" / "digits"
    assert {path.name for path in folder.iterdir()} == FILES | {
        "accuracy_by_method.png", "samples_by_method.png", "accuracy_vs_scale.png", "equal_scale.csv", "methods.csv",
    }  # fmt: skip
    assert "(samples_by_method.png)" in (folder / "report.md").read_text()
    # The rows of the plain sweep before are as they were.
    before, settings = sweep[sweep["guidance_method"] == "plain"].reset_index(drop=True), "guidance_settings"
    pd.testing.assert_frame_equal(before.drop(columns=settings), table(finished).drop(columns=settings))


def test_the_remedy_of_an_error_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = new_root(tmp_path)
    assert run(root, "digits", *TINY, "--denoiser.pool", "7") == 2
    assert "--denoiser.pool is 7" in capsys.readouterr().err
    assert not (root / "checkpoints").exists()


@pytest.mark.long
def test_a_report_that_was_cut_off_is_made_again(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shutil.copytree(finished, tmp_path / "copy")
    shutil.rmtree(root / "reports")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("evaluator.reporting.figures.loss_curve", interrupt)
        assert run(root, "digits", *TINY) == 130
    assert not (root / "reports" / "digits" / "report.md").exists()
    assert run(root, "digits", *TINY) == 0
    pd.testing.assert_frame_equal(table(root), table(finished))


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
def test_an_interrupted_training_goes_on_to_the_same_bits(finished: Path, tmp_path: Path, precision: str) -> None:
    root = new_root(tmp_path)
    process = subprocess.Popen(
        command("digits", *TINY, "--root", str(root), auto=precision),
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
    assert f"finished work is saved in {root / 'checkpoints' / 'digits'}; the same command resumes it" in told
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
    # What was trained on other images is refused, though every setting is the same.
    picture = (folder / "scene_7_1.png").read_bytes()
    Image.new("RGBA", (32, 24), (0, 0, 255)).save(folder / "scene_7_1.png")
    assert run(tmp_path, *arguments, *TINY) == 2
    assert ".pt was made with other settings: images is " in capsys.readouterr().err
    (folder / "scene_7_1.png").write_bytes(picture)
    assert run(tmp_path, *arguments, *TINY) == 0
    (folder / "scene_7_1.png").unlink()
    assert run(tmp_path, *arguments, *TINY) == 2
    assert "1 of 80 images cannot be used: 1 missing\nthe first is 'scene_7_1.png'" in capsys.readouterr().err
