"""What mistakes get: two lines, and no file changed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import run_experiments
from experiments import command_line
from tests.command import PROJECT, TINY, Mistake, command, run


@pytest.mark.parametrize(
    ("told", "arguments"),
    [
        ("unknown preset or command 'digit'; `run_experiments.py --help` lists all; did you mean 'digits'?", "digit"),
        ("--schedule.timesteps is 0; it must be from 2 to 100000", "--schedule.timesteps 0"),
        ("--sweep.guidance-weights is nan; it must be from -1 to 100", "--sweep.guidance-weights nan"),
        ("--sweep.guidance-weights is -2.0", "--sweep.guidance-weights 0 -2"),
        ("--sweep.guidance-weights has 2 twice", "--sweep.guidance-weights 2 2"),
        (
            "--sweep.workers is 2 and --sweep.cluster is tcp://a:1; remove",
            "--sweep.workers 2 --sweep.cluster tcp://a:1",
        ),
        ("--sampler.sampling-steps is 500; it must be at most", "--sampler.sampling-steps 500"),
        (
            "--guidance.method plus_plus needs deterministic ddim, not dpm_solver; add",
            "--guidance.method plus_plus",
        ),
        ("--guidance.method has auto twice", "--guidance.method auto auto"),
        (
            "--guidance.method auto guides by an earlier checkpoint of the same training, and this one",
            "--guidance.method auto --training.checkpoints 1",
        ),
        (
            "--sampler.kind is 'dimm'; choose from ancestral, ddim, dpm_solver, diffusers_ddpm, diffusers_ddim, "
            "diffusers_dpm_solver, diffusers_unipc; did you mean 'ddim'?",
            "--sampler.kind dimm",
        ),
        ("--sampler.eta is 1.5; it must be from 0 to 1", "--sampler.kind ddim --sampler.eta 1.5"),
        (
            "no method 'plian'; choose from plain, interval, schedule, rescale, projected, zero_star, tangential, "
            "magnitude, plus_plus, feedback, annealed, independent, timestep, auto, composed, classifier, dynamic, "
            "distilled; "
            "did you mean 'plain'?",
            "--guidance.method plian",
        ),
        ("--device is 'cuda:7'; this machine has no such device; choose from auto", "--device cuda:7"),
        ("--name is '../x'", "--name ../x"),
        ("no train.json, which names the images; copy i-CLEVR's files, give --data.folder", "iclevr-small"),
        ("no such label-set file; did you mean 'test.json'?", "--data.label-sets data/digits/tset.json"),
        (
            "--data.dataset is 'digit'; choose from digits, mnist5k, mnist, fashion_mnist, cifar10, scenes, "
            "class_folders; did you mean 'digits'?",
            "--data.dataset digit",
        ),
        ("two files called 'test'", "--data.label-sets a/test.json b/test.json"),
        ("this training has 2 epochs, and 7 would need another learning rate at every step", "--training.epochs 7"),
        (
            "config.json was made with other settings: training.batch_size is 128 there, 7 here",
            "--training.batch-size 7",
        ),
    ],
)
def test_mistakes_are_told_in_two_lines_and_change_nothing(
    finished: Path, mistake: Mistake, told: str, arguments: str
) -> None:
    first, *rest = arguments.split()
    preset = [first] if not first.startswith("-") else ["digits", *TINY, first]
    mistake(finished, told, *preset, *rest)


def test_a_schedule_that_ends_short_of_noise_is_warned_of_at_once(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished / "data", tmp_path / "data")
    shutil.copytree(finished / "checkpoints", tmp_path / "checkpoints")
    assert run(tmp_path, "digits", *TINY, "--schedule.kind", "linear") == 2
    error = capsys.readouterr().err
    assert "leaves alpha_bar_T = 0.017 of the signal variance" in error
    assert "training.pt was made with other settings: schedule.kind is cosine there, linear here" in error


@pytest.mark.parametrize("name", ["epoch", "rank", "test_low"])
def test_a_label_set_file_may_not_be_called_as_a_column(finished: Path, mistake: Mistake, name: str) -> None:
    files = ["data/digits/test.json", f"data/digits/{name}.json"]
    mistake(
        finished,
        f"{name!r} is already a column name in the tables; rename {name}.json",
        "digits",
        *TINY,
        "--data.label-sets",
        *files,
    )


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("checkpoints/digits/evaluator.pt", "evaluator.pt: this evaluator is damaged or not a torch file"),
        ("checkpoints/digits/training.pt", "training.pt: this training state is damaged or not a torch file"),
        ("reports/digits/config.json", "config.json: no configuration of this lab"),
    ],
)
def test_garbage_in_a_file_is_told_and_left(
    finished: Path, tmp_path: Path, mistake: Mistake, file: str, told: str
) -> None:
    root = shutil.copytree(finished, tmp_path / "copy")
    (root / file).write_bytes(b"\x00garbage")
    mistake(root, told, "digits", *TINY)


def test_a_damaged_cell_is_told_and_left(finished: Path, tmp_path: Path, mistake: Mistake) -> None:
    root = shutil.copytree(finished, tmp_path / "copy")
    cell = min((root / "checkpoints" / "digits" / "cells").iterdir())
    cell.write_bytes(cell.read_bytes()[:-100])
    mistake(root, f"{cell}: this sweep cell is damaged", "digits", *TINY)


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


def test_a_full_gpu_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.\nIf reserved but ...")

    monkeypatch.setattr(command_line, "run", full)
    assert run_experiments.main(["digits"]) == 2
    told = "error: the device's memory is full; lower --training.batch-size or --sweep.batch-size"
    assert capsys.readouterr().err.strip() == told
