"""Previews of a training, and that looking changes nothing."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from experiments.presets import PRESETS
from experiments.previews import write_preview
from lab.checkpoints import load_checkpoint
from lab.configuration import SweepConfig
from lab.datasets import digits
from tests.command import CPU, TIMING, TINY, new_root, run, table


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
        write_preview(experiment, again, asked, CPU, "float32")
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
