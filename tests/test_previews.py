"""Previews of a training, and that looking changes nothing."""

import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lab.checkpoints import load_checkpoint
from lab.datasets import digits
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
    first, second = (np.asarray(Image.open(path).convert("L")) for path in previews[:2])
    assert first.shape == second.shape
    assert not np.array_equal(first, second)

    for epoch in ("epoch0001.pt", "epoch0002.pt"):
        looked_at, left_alone = (
            torch.load(folder / "checkpoints" / "digits" / epoch, weights_only=True)["weights"]
            for folder in (root, finished)
        )
        assert all(torch.equal(looked_at[name], left_alone[name]) for name in left_alone)
    columns = [name for name in table(finished) if name not in TIMING]
    assert table(root)[columns].equals(table(finished)[columns])
