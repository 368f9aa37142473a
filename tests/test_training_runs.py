"""Trainings in a folder: how many checkpoints they keep, how they go on for longer, and what they start from."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lab.configuration.diffusion import CosineScheduleConfig
from lab.configuration.networks import ContextUnetConfig
from lab.configuration.training import TrainingConfig
from lab.data.datasets import digits
from lab.errors import LabError
from lab.machine.computation import Computation
from lab.training.checkpoints import read_checkpoint, save_checkpoint
from lab.training.recipe import Recipe
from lab.training.runs import TrainingRun
from lab.training.trainer import Trainer
from tests.command import TINY, Mistake, new_root, run, table

IMAGES = digits().subset(torch.arange(90))
CONFIG = TrainingConfig(epochs=2, batch_size=40, warmup_steps=2, decay="none", checkpoints=2)
NETWORK = ContextUnetConfig(n_feat=8, bottleneck="map")


def trained(folder: Path, config: TrainingConfig) -> TrainingRun:
    """Train to the end and open the folder once more."""
    for _ in opened(folder, config).steps():
        pass
    return opened(folder, config)


def opened(folder: Path, config: TrainingConfig) -> TrainingRun:
    recipe = Recipe(NETWORK, CosineScheduleConfig(), config)
    return TrainingRun(folder, IMAGES, recipe, {"training": config, "seed": 0}, Computation())


def weights(folder: Path, epoch: int) -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / f"epoch{epoch:04d}.pt").weights


@given(epochs=st.integers(1, 200), checkpoints=st.integers(1, 200))
def test_checkpoints_are_kept_evenly_and_at_most_one_an_epoch(epochs: int, checkpoints: int) -> None:
    kept = TrainingConfig(epochs=epochs, checkpoints=checkpoints).kept_epochs
    assert len(set(kept)) == len(kept) == min(epochs, checkpoints)
    assert kept[-1] == epochs
    gaps = [after - before for before, after in zip([0, *kept], kept, strict=False)]
    assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("stopped_at", [2, 3, 5])
def test_a_training_that_goes_on_for_longer_ends_with_the_bits_of_a_long_one(tmp_path: Path, stopped_at: int) -> None:
    long = replace(CONFIG, epochs=6, checkpoints=3)
    assert [kept.epoch for kept in trained(tmp_path / "long", long).kept] == [2, 4, 6]
    trained(tmp_path / "short", replace(CONFIG, epochs=stopped_at, checkpoints=1))
    on = trained(tmp_path / "short", long)
    assert on.steps_so_far == on.total_steps == 18
    # Those that the short training went past without keeping them are not there.
    assert [kept.epoch for kept in on.kept] == [epoch for epoch in (2, 4, 6) if epoch >= stopped_at]
    for kept in on.kept:
        for name, tensor in weights(tmp_path / "long", kept.epoch).items():
            assert torch.equal(tensor, weights(tmp_path / "short", kept.epoch)[name])
    rows = [opened(tmp_path / name, long).log.rows for name in ("long", "short")]
    assert [row["loss"] for row in rows[0]] == [row["loss"] for row in rows[1]]


def test_an_unfinished_training_can_be_made_longer_too(tmp_path: Path) -> None:
    steps = opened(tmp_path / "on", CONFIG).steps()
    while next(steps).step < 3:
        pass
    del steps  # cut off, after the checkpoint of the first epoch was kept
    long = replace(CONFIG, epochs=3)
    trained(tmp_path / "long", long)
    trained(tmp_path / "on", long)
    for name, tensor in weights(tmp_path / "long", 3).items():
        assert torch.equal(tensor, weights(tmp_path / "on", 3)[name])


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (
            {"decay": "cosine"},
            {"decay": "cosine", "epochs": 3},
            "this training has 2 epochs, and 3 would need another learning rate at every step",
        ),
        ({}, {"epochs": 1}, "this training has 2 epochs, and --training.epochs is 1; take as many, or another --name"),
        ({}, {"epochs": 3, "decay": "linear"}, "training.decay is none there, linear here"),
        ({}, {"epochs": 3, "batch_size": 30}, "training.batch_size is 40 there, 30 here"),
        ({}, {"checkpoints": 1}, "training.checkpoints is 2 there, 1 here"),
    ],
)
def test_other_changes_of_a_training_are_refused(
    tmp_path: Path, before: dict[str, Any], now: dict[str, Any], told: str
) -> None:
    trained(tmp_path, replace(CONFIG, **before))
    with pytest.raises(LabError, match=told):
        opened(tmp_path, replace(CONFIG, **now))


def test_a_checkpoint_that_was_kept_and_is_gone_is_missed(tmp_path: Path) -> None:
    trained(tmp_path, CONFIG)
    (tmp_path / "epoch0001.pt").unlink()
    with pytest.raises(LabError, match="epoch0001.pt is gone, though training went past it"):
        opened(tmp_path, CONFIG)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    trained(folder, CONFIG)
    return folder / "epoch0002.pt"


def test_a_training_starts_from_a_checkpoint_s_weights(start: Path) -> None:
    config = replace(CONFIG, start_from=start)
    trainer = Trainer(Recipe(NETWORK, CosineScheduleConfig(), config), IMAGES)
    for state in (trainer.denoiser.state_dict(), trainer.ema.module.state_dict()):
        for name, tensor in read_checkpoint(start).weights.items():
            assert torch.equal(state[name], tensor)
    fresh = Trainer(Recipe(NETWORK, CosineScheduleConfig(), CONFIG), IMAGES)
    losses = [next(each.steps()).loss for each in (trainer, fresh)]
    assert losses[0] < losses[1]


def test_what_does_not_fit_is_no_start(start: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, start_from=start)
    for network, told in (
        (replace(NETWORK, n_feat=16), "does not fit: n_feat is 8 there, 16 here"),
        (replace(NETWORK, prediction="v"), "does not fit: prediction is noise there, v here"),
    ):
        with pytest.raises(LabError, match=told):
            Trainer(Recipe(network, CosineScheduleConfig(), config), IMAGES)
    other = read_checkpoint(start)
    save_checkpoint(tmp_path / "other.pt", replace(other, image_shape=(1, 16, 16)))
    with pytest.raises(LabError, match=r"image shape is \(1, 16, 16\) there, \(1, 8, 8\) here"):
        Trainer(Recipe(NETWORK, training=replace(CONFIG, start_from=tmp_path / "other.pt")), IMAGES)
    with pytest.raises(LabError, match="no such checkpoint"):
        Trainer(Recipe(NETWORK, training=replace(CONFIG, start_from=tmp_path / "gone.pt")), IMAGES)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"epochs": 0, "start_from": Path("x.pt")}, "--training.start-from is for a new training"),
        (
            {"largest_weight": 2.0},
            "--training.largest-weight is 2, which --training.weighting as_predicted does not use",
        ),
    ],
)
def test_settings_that_nothing_would_use_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(LabError, match=told):
        TrainingConfig(**settings)


@pytest.mark.long
def test_the_command_starts_from_a_checkpoint_and_goes_on_for_longer(
    tmp_path: Path, mistake: Mistake, capsys: pytest.CaptureFixture[str]
) -> None:
    root = new_root(tmp_path)
    constant = [*TINY, "--training.decay", "none"]
    assert run(root, "digits", *constant) == 0
    first = root / "checkpoints" / "digits" / "epoch0002.pt"
    start = ["digits", "--name", "second", *constant, "--training.start-from"]
    assert run(root, *start, "checkpoints/digits/epoch0002.pt") == 0
    page = (root / "reports" / "second" / "report.md").read_text(encoding="utf-8")
    assert "The training started from the weights of checkpoints/digits/epoch0002.pt." in page
    losses = [table(root, "training", name)["loss"] for name in ("digits", "second")]
    assert losses[1].iloc[0] < losses[0].iloc[0]
    # Where the file lies does not count, and what it holds does.
    first.rename(root / "moved.pt")
    assert run(root, *start, "moved.pt") == 0
    mistake(root, "start_from is", *start, "checkpoints/digits/epoch0001.pt")
    # A longer run of the same command.
    assert run(root, *start, "moved.pt", "--training.epochs", "3") == 0
    assert table(root, "training", "second")["epoch"].tolist() == [1, 2, 3]
    capsys.readouterr()
    assert run(root, *start, "moved.pt", "--training.epochs", "4", "--precision", "bfloat16") == 0
    assert "warning: this training began in precision float32 and goes on in bfloat16" in capsys.readouterr().err
    assert set(table(root, "training", "second")["precision"]) == {"float32", "bfloat16"}
