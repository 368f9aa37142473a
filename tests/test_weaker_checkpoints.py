"""The weaker checkpoint of autoguidance in a sweep: the training's first one, another one of it, or another network."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.configuration import Experiment
from experiments.weaker import weaker_name
from lab.configuration.diffusion import LinearScheduleConfig
from lab.configuration.networks import ContextUnetConfig
from lab.data.datasets import digits
from lab.machine.files import digest
from lab.training.checkpoints import read_checkpoint, save_checkpoint
from lab.training.recipe import Recipe
from lab.training.trainer import Trainer
from tests.command import TINY, Mistake, new_root, run, table

AUTO = ["--guidance.method", "auto", "--sweep.guidance-weights", "0", "2"]


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "copy")


def smaller(root: Path) -> Path:
    """Write a checkpoint of an experiment whose network is another, and return its path within the root."""
    checkpoint = Trainer(Recipe(ContextUnetConfig(n_feat=8, bottleneck="map")), digits()).checkpoint()
    save_checkpoint(root / "checkpoints" / "smaller" / "epoch0001.pt", checkpoint)
    return Path("checkpoints", "smaller", "epoch0001.pt")


def test_a_name_has_the_experiment_unless_it_is_the_own_one(root: Path) -> None:
    experiment = Experiment(root=root)
    assert weaker_name(experiment, root / "checkpoints" / "digits" / "epoch0001.pt") == "epoch0001"
    assert weaker_name(experiment, root / "checkpoints" / "smaller" / "epoch0001.pt") == "smaller/epoch0001"
    other = replace(experiment, name="other", checkpoints_of="digits")
    assert weaker_name(other, root / "checkpoints" / "digits" / "epoch0001.pt") == "epoch0001"


@pytest.mark.long
def test_the_command_guides_away_from_any_checkpoint(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = root / "checkpoints" / "digits" / "cells"
    assert run(root, "digits", *TINY, *AUTO) == 0
    by_first = table(root)
    names = {path.name for path in cells.iterdir()}
    # The first checkpoint, named: the same cells.
    assert run(root, "digits", *TINY, *AUTO, "--weak-checkpoint", "checkpoints/digits/epoch0001.pt") == 0
    assert {path.name for path in cells.iterdir()} == names
    path = smaller(root)
    capsys.readouterr()
    assert run(root, "digits", *TINY, *AUTO, "--weak-checkpoint", str(path)) == 0
    # Both checkpoints are guided, because the weaker one is neither.
    assert "cannot guide itself" not in capsys.readouterr().err
    sweep = table(root)
    rows = sweep[sweep["guidance_settings"] == "weak_checkpoint=smaller/epoch0001"]
    assert set(rows["checkpoint"]) == {"epoch0001", "epoch0002"}
    assert rows["network_evaluations"].groupby(rows["guidance_weight"]).unique().map(list).to_dict() == {0: [3], 2: [6]}
    keys = ["checkpoint", "label_set", "guidance_weight"]
    former = by_first[by_first["guidance_method"] == "auto"].set_index(keys)
    own, other = former["correct_labels"], rows.set_index(keys)["correct_labels"].loc[former.index]
    neutral = former.index.get_level_values("guidance_weight") == 0
    assert (own == other)[neutral].all()
    assert (own != other)[~neutral].any()
    # A file with other content makes other cells.
    before = {path.name for path in cells.iterdir()}
    checkpoint, digest_before = read_checkpoint(root / path), digest(root / path)
    save_checkpoint(root / path, replace(checkpoint, epoch=1))
    assert digest(root / path) != digest_before
    assert run(root, "digits", *TINY, *AUTO, "--weak-checkpoint", str(path)) == 0
    added = {path.name for path in cells.iterdir()} - before
    assert len(added) == 2 * 2 * 2  # checkpoints, weights, files
    # On two workers, and from a file that lies elsewhere: the same bits.
    for name in added:
        (cells / name).unlink()
    moved = shutil.copytree(root / "checkpoints" / "smaller", root / "elsewhere" / "smaller") / "epoch0001.pt"
    counts = table(root).set_index([*keys, "guidance_settings"])["correct_labels"]
    assert run(root, "digits", *TINY, *AUTO, "--weak-checkpoint", str(moved), "--sweep.workers", "2") == 0
    assert added <= {path.name for path in cells.iterdir()}
    assert table(root).set_index([*keys, "guidance_settings"])["correct_labels"].equals(counts)


@pytest.mark.long
def test_a_checkpoint_that_the_training_will_keep_may_be_named_before(tmp_path: Path) -> None:
    root, weak = new_root(tmp_path), "checkpoints/digits/epoch0002.pt"
    few = [*TINY, "--training.epochs", "3", "--training.checkpoints", "3"]
    assert run(root, "digits", *few, *AUTO, "--weak-checkpoint", weak, "--preview-every", "8") == 0
    assert set(table(root)["checkpoint"]) == {"epoch0001", "epoch0003"}


def test_what_does_not_fit_is_refused(root: Path, mistake: Mistake) -> None:
    path = smaller(root)
    auto = ["digits", *TINY, *AUTO, "--weak-checkpoint"]
    mistake(root, "is for --guidance.method auto, which is not swept", "digits", *TINY, "--weak-checkpoint", str(path))
    mistake(root, "epoch0003.pt: no such checkpoint", *auto, "checkpoints/digits/epoch0003.pt")
    newest = ["checkpoints/digits/epoch0002.pt", "--sweep.newest", "1"]
    mistake(root, "epoch0002.pt is the only checkpoint that is swept; give a weaker one", *auto, *newest)
    shutil.copyfile(root / newest[0], root / "copy.pt")
    mistake(root, "copy.pt is the only checkpoint that is swept; give a weaker one", *auto, "copy.pt", *newest[1:])
    checkpoint = read_checkpoint(root / path)
    save_checkpoint(root / path, replace(checkpoint, schedule=LinearScheduleConfig()))
    mistake(root, "has another noise schedule or image size than --name digits", *auto, str(path))
    save_checkpoint(
        root / path, replace(checkpoint, vocabulary=replace(checkpoint.vocabulary, names=tuple("abcdefghij")))
    )
    mistake(root, "class 0 is 'a'", *auto, str(path))
    content = bytearray((root / path).read_bytes())
    content[len(content) // 2] ^= 1
    (root / path).write_bytes(bytes(content))
    mistake(root, "this checkpoint is damaged", *auto, str(path))
