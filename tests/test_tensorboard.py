"""What `--tensorboard` writes, read back with TensorBoard's own reader."""

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments.tensorboard import TensorBoard
from lab.training.trainer import Step
from tests.command import TINY, Mistake, new_root, run, table

# The extra [test] installs it; a user's environment may not have it.
tensorboard_events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def events(folder: Path) -> Any:
    read = tensorboard_events.EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    return read.Reload()


def step(number: int, loss: float) -> Step:
    return Step(number, 1, ends_epoch=False, loss=loss, learning_rate=0.5, gradient_norm=2.0, images=8)


def test_a_run_writes_the_numbers_of_its_tables_and_its_previews(tmp_path: Path) -> None:
    root = new_root(tmp_path)
    watched = [*TINY, "--training.score-every", "1", "--preview-every", "6", "--tensorboard"]
    assert run(root, "digits", *watched) == 0
    read = events(root / "reports" / "digits" / "tensorboard")

    losses = read.Scalars("training/loss")
    epochs = table(root, "training")
    assert [event.step for event in losses] == list(range(1, epochs["step"].iloc[-1] + 1))
    # The last batch of an epoch is smaller than 128, and counts less.
    sizes = pd.Series([128] * len(losses))
    sizes[epochs["step"] - 1] = 899 % 128
    first = slice(0, epochs["step"].iloc[0])
    mean = sum(event.value * size for event, size in zip(losses[first], sizes[first], strict=True)) / 899
    assert mean == pytest.approx(epochs["loss"].iloc[0], rel=1e-5)
    rates = read.Scalars("training/learning_rate")
    assert [rates[place - 1].value for place in epochs["step"]] == pytest.approx(epochs["learning_rate"].tolist())
    assert all(event.value > 0 for event in read.Scalars("training/images_per_second"))

    by_epoch = table(root, "accuracy_by_epoch")
    for name in ("test", "new_test"):
        measured = read.Scalars(f"accuracy/{name}")
        assert [event.step for event in measured] == by_epoch["step"].tolist()
        assert [event.value for event in measured] == pytest.approx(by_epoch[name].tolist())
    previews = sorted((root / "reports" / "digits" / "previews").iterdir())
    assert [f"step{event.step:06d}.png" for event in read.Images("previews")] == [path.name for path in previews]


def test_a_training_that_goes_on_replaces_what_was_written_beyond_its_state(tmp_path: Path) -> None:
    killed = TensorBoard(tmp_path, steps_so_far=0)
    for number in range(1, 6):
        killed.add_step(step(number, loss=number))
    killed.close()
    going_on = TensorBoard(tmp_path, steps_so_far=3)
    for number in range(4, 7):
        going_on.add_step(step(number, loss=10 * number))
    going_on.close()
    losses = events(tmp_path / "tensorboard").Scalars("training/loss")
    assert [(event.step, event.value) for event in losses] == [(1, 1), (2, 2), (3, 3), (4, 40), (5, 50), (6, 60)]
    # A new training in the same folder begins with no events.
    TensorBoard(tmp_path, steps_so_far=0).close()
    assert "training/loss" not in events(tmp_path / "tensorboard").Tags()["scalars"]


def test_a_missing_package_is_reported_before_anything_is_trained(
    tmp_path: Path, mistake: Mistake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    root = new_root(tmp_path)
    mistake(root, "run: pip install -e '.[tensorboard]'", "digits", *TINY, "--tensorboard")
    assert not (root / "checkpoints" / "digits").exists()
