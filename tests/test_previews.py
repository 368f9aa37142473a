"""Previews of a training, and that looking changes nothing."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.presets import PRESETS
from experiments.previews import write_preview
from lab.configuration.guidance import GuidanceConfig
from lab.configuration.sweep import SweepConfig
from lab.data.datasets import digits
from lab.machine.computation import Computation
from lab.training.checkpoints import load_checkpoint
from tests.command import TIMING, TINY, new_root, run, table


def test_previews_show_the_training_and_leave_it_as_it_is(finished: Path, tmp_path: Path) -> None:
    root = new_root(tmp_path)
    # The evaluator is the same, and training it again would show nothing.
    (root / "checkpoints" / "digits").mkdir(parents=True)
    shutil.copy(finished / "checkpoints" / "digits" / "evaluator.pt", root / "checkpoints" / "digits")
    assert run(root, "digits", *TINY, "--preview-every", "5") == 0
    previews = sorted((root / "reports" / "digits" / "previews").iterdir())
    steps = load_checkpoint(root / "checkpoints" / "digits" / "epoch0002.pt", digits().vocabulary).step
    assert [path.name for path in previews] == [f"step{step:06d}.png" for step in range(5, steps + 1, 5)]
    # Below the title, which has the step in it, the images alone differ.
    first, second = (np.asarray(Image.open(path).convert("L"))[80:] for path in previews[:2])
    assert first.shape == second.shape
    assert not np.array_equal(first, second)
    again = load_checkpoint(root / "checkpoints" / "digits" / "epoch0002.pt", digits().vocabulary)
    experiment = replace(PRESETS["digits"][1], root=root, name="again", sweep=SweepConfig(guidance_weights=(-1, 0, 2)))
    experiment = replace(experiment, sampler=replace(experiment.sampler, sampling_steps=3))
    asked = tuple((name,) for name in again.vocabulary.names)
    pictures = []
    for _ in range(2):
        write_preview(experiment, again, None, asked, Computation())
        pictures.append((experiment.reports / "previews" / f"step{steps:06d}.png").read_bytes())
    assert pictures[0] == pictures[1]

    for epoch in ("epoch0001.pt", "epoch0002.pt"):
        looked_at, left_alone = (
            torch.load(folder / "checkpoints" / "digits" / epoch, weights_only=True)["weights"]
            for folder in (root, finished)
        )
        assert all(torch.equal(looked_at[name], left_alone[name]) for name in left_alone)
    columns = [name for name in table(finished) if name not in TIMING]
    assert table(root)[columns].equals(table(finished)[columns])


def test_previews_are_guided_by_the_methods_of_the_sweep(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = finished / "checkpoints" / "digits"
    checkpoint = load_checkpoint(checkpoints / "epoch0002.pt", digits().vocabulary)
    drawn: list[tuple[np.ndarray, list[str]]] = []
    monkeypatch.setattr(
        "evaluator.reporting.figures.image_grid",
        lambda path, images, rows, columns, title: drawn.append((images, list(rows))),
    )
    experiment = replace(
        PRESETS["digits"][1],
        root=tmp_path,
        sweep=SweepConfig(guidance_weights=(3.0,)),
        guidance=GuidanceConfig(method=("plain", "rescale", "auto")),
    )
    asked = (("3",), ("5",))
    for weak in (None, checkpoints / "epoch0001.pt"):
        write_preview(experiment, checkpoint, weak, asked, Computation())
    (before, names_before), (after, names) = drawn
    assert [name.split("\n")[0] for name in names] == ["plain", "rescale", "auto"]
    assert [name.split("\n")[0] for name in names_before] == ["plain", "rescale"]
    assert np.array_equal(after[:2], before)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert not np.array_equal(after[first], after[second])
