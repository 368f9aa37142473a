"""Trainings in a folder: how many checkpoints they keep, how they go on for longer, and what they start from."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiments.stages import computation_warning
from lab.configuration.diffusion import CosineScheduleConfig
from lab.configuration.networks import (
    BasicUNetConfig,
    ContextUnetConfig,
    DenoiserConfig,
    ImportedUNet2DConfig,
)
from lab.configuration.training import TrainingConfig
from lab.data.datasets import digits
from lab.data.labels import ClassVocabulary
from lab.errors import LabError
from lab.machine.computation import Computation
from lab.networks.registry import build_denoiser
from lab.training.checkpoints import Checkpoint, read_checkpoint, save_checkpoint
from lab.training.recipe import Recipe
from lab.training.runs import TrainingRun
from lab.training.trainer import Trainer
from tests.classes import some_classes
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


def test_a_start_of_another_vocabulary_is_refused_by_the_first_class_that_differs(start: Path, tmp_path: Path) -> None:
    # A difference far behind, where a list of all names would be cut.
    names = [*(f"a class with a long name {number}" for number in range(9)), "last"]
    for path, vocabulary, message in (
        ("swapped.pt", ClassVocabulary((*"012345678", "last")), "class 9 is 'last', but objects.json calls it '9'"),
        ("long.pt", ClassVocabulary(tuple(names)), "class 0 is 'a class with a long name 0'"),
        ("fewer.pt", ClassVocabulary(tuple("012")), "has 3 classes, but objects.json has 10"),
    ):
        other = replace(read_checkpoint(start), vocabulary=vocabulary)
        network = build_denoiser(NETWORK, IMAGES.image_shape, vocabulary.names, other.schedule, seed=0)
        save_checkpoint(tmp_path / path, replace(other, weights=network.state_dict()))
        with pytest.raises(LabError, match=message):
            Trainer(Recipe(NETWORK, training=replace(CONFIG, start_from=tmp_path / path)), IMAGES)


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (replace(NETWORK, n_feat=16, activation="relu", prediction="v"), "n_feat is 8 there, 16 here"),
        (replace(NETWORK, activation="relu", attention="map"), "activation is gelu there, relu here"),
        (BasicUNetConfig(n_feat=16, prediction="v"), "kind is context_unet there, basic_unet here"),
    ],
)
def test_of_several_differences_the_first_setting_is_named(start: Path, network: DenoiserConfig, told: str) -> None:
    with pytest.raises(LabError, match=told):
        Trainer(Recipe(network, training=replace(CONFIG, start_from=start)), IMAGES)


def write_imported(path: Path, num_class_embeds: int | None, null_condition: bool = False) -> ImportedUNet2DConfig:
    """Write a checkpoint as `import-pipeline` does, and return the settings of its network."""
    settings: dict[str, Any] = {"in_channels": 1, "out_channels": 1, "layers_per_block": 1, "norm_num_groups": 4}
    settings |= {"block_out_channels": [8, 16], "add_attention": False, "num_class_embeds": num_class_embeds}
    settings |= {"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2}
    denoiser, schedule = ImportedUNet2DConfig(unet2d=settings, null_condition=null_condition), CosineScheduleConfig()
    weights = build_denoiser(denoiser, IMAGES.image_shape, some_classes(10), schedule, seed=3).state_dict()
    imported = {"imported": "theirs"}
    save_checkpoint(
        path, Checkpoint(denoiser, schedule, IMAGES.image_shape, IMAGES.vocabulary, 0, 0, imported, weights)
    )
    return denoiser


@pytest.mark.parametrize(
    ("null_condition", "dropout", "several", "told"),
    [
        (False, 0.1, False, "--training.context-dropout is 0.1, and the network of .* has no null condition"),
        (False, 0.0, True, "images have 2 classes, and its network takes 1 to 1"),
        (True, 0.1, True, "images have 2 classes, and its network takes 0 to 1"),
        (False, 0.0, False, None),
        (True, 0.1, False, None),
    ],
)
def test_an_imported_network_is_trained_on_the_conditions_that_it_has(
    tmp_path: Path, null_condition: bool, dropout: float, several: bool, told: str | None
) -> None:
    path, images = tmp_path / "imported.pt", IMAGES
    denoiser = write_imported(path, num_class_embeds=10 + null_condition, null_condition=null_condition)
    if several:
        conditions = IMAGES.conditions.clone()
        conditions[-1] = torch.eye(10)[:2].sum(dim=0)
        images = replace(IMAGES, conditions=conditions)
    recipe = Recipe(denoiser, training=replace(CONFIG, context_dropout=dropout, start_from=path))
    if told is None:
        assert math.isfinite(next(Trainer(recipe, images).steps()).loss)
        return
    with pytest.raises(LabError, match=told):
        Trainer(recipe, images)


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
    told = "warning: epoch 3 was trained in float32 on cpu; training goes on in bfloat16 on cpu"
    assert capsys.readouterr().err.count(told) == 1
    assert set(table(root, "training", "second")["precision"]) == {"float32", "bfloat16"}


@pytest.mark.long
def test_a_longer_training_that_keeps_one_checkpoint_is_not_guided_by_an_earlier_one(
    tmp_path: Path, mistake: Mistake
) -> None:
    root = new_root(tmp_path)
    constant = ["digits", *TINY, "--training.decay", "none"]
    assert run(root, *constant, "--training.epochs", "4", "--training.checkpoints", "1") == 0
    longer = [*constant, "--training.epochs", "5"]
    # The training passed epoch 2, the first of the two, when it was shorter.
    told = "keeps a single checkpoint, since it was shorter when it passed the other 1; choose another method or --name"
    mistake(root, told, *longer, "--guidance.method", "auto")
    assert run(root, *longer) == 0
    assert set(table(root)["checkpoint"]) == {"epoch0005"}
    assert (root / "checkpoints" / "digits" / "epoch0004.pt").exists()
    mistake(root, told, *longer, "--guidance.method", "auto")


@pytest.mark.long
def test_the_command_starts_from_an_imported_checkpoint_with_its_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = new_root(tmp_path)
    start = root / "checkpoints" / "theirs" / "epoch0000.pt"
    write_imported(start, num_class_embeds=None)
    tuned = ["digits", *TINY, "--name", "tuned", "--training.start-from", "checkpoints/theirs/epoch0000.pt"]
    tuned += ["--training.learning-rate", "0", "--training.weight-decay", "0", "--sweep.guidance-weights", "0"]
    tuned += ["--training.epochs", "1"]
    capsys.readouterr()
    for _ in range(2):  # trained, then found finished
        assert run(root, *tuned) == 0
        assert f"the network is that of {start}; --denoiser options are not used" in capsys.readouterr().err
    # At a learning rate of 0 they are the imported weights, up to the rounding of the EMA.
    for name, tensor in read_checkpoint(root / "checkpoints" / "tuned" / "epoch0001.pt").weights.items():
        torch.testing.assert_close(tensor, read_checkpoint(start).weights[name])


@pytest.mark.parametrize(
    ("in_precision", "device", "told"),
    [
        ("float32", "cuda:1", None),
        ("float32", "cuda", None),
        ("bfloat16", "cuda:0", "epoch 7 was trained in float32 on cuda; training goes on in bfloat16 on cuda"),
        ("float32", "cpu", "epoch 7 was trained in float32 on cuda; training goes on in float32 on cpu"),
        ("bfloat16", "mps", "epoch 7 was trained in float32 on cuda; training goes on in bfloat16 on mps"),
    ],
)
def test_a_training_that_goes_on_in_other_arithmetic_says_so(in_precision: str, device: str, told: str | None) -> None:
    # The last epoch counts, not the first.
    rows = [{"epoch": 6, "precision": "float16", "device": "mps"}]
    rows += [{"epoch": 7, "precision": "float32", "device": "cuda:0"}]
    computation = Computation(torch.device(device), in_precision)
    assert computation_warning(rows, computation) == told
    assert computation_warning([], computation) is None
