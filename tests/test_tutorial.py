"""The tutorial as a command, and as a notebook."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from experiments.presets import PRESETS
from experiments.tutorial import tutorial_steps
from lab.configuration.checks import as_primitives
from tests.command import PROJECT, TINY, new_root, run

NAME = "tutorial-digits"


def test_every_step_is_an_experiment_of_its_own_or_of_an_earlier_training() -> None:
    steps = tutorial_steps(PRESETS[NAME][1])
    names = [f"{NAME}-{name}" for name in steps]
    for place, step in enumerate(steps.values()):
        assert step.experiment.checkpoints_of in ["", *names[:place]]
    trainings = [
        json.dumps(as_primitives(step.experiment.generator_settings()), sort_keys=True) for step in steps.values()
    ]
    assert len(set(trainings)) == sum(not step.experiment.checkpoints_of for step in steps.values())


@pytest.mark.slow
def test_the_command_makes_the_table_and_the_figures(tmp_path: Path) -> None:
    root = new_root(tmp_path)
    quick = [*TINY, "--training.checkpoints", "1", "--sweep.seeds", "1"]
    assert run(root, NAME, *quick) == 0
    folder = root / "reports" / NAME
    table = pd.read_csv(folder / "tutorial.csv")
    assert len(table) == len(tutorial_steps(PRESETS[NAME][1])) + 2 + 1
    of_basic = table[table["step"].str.contains("BasicUNet")].iloc[0]
    assert (of_basic["parameters"], of_basic["network_evaluations"]) == (309_057, 5)
    # Of pixels from 0 to 1, where training has them from -1 to 1; half of the 1,797 images are the generator's.
    losses = pd.read_csv(folder / "losses.csv").query("network == 'BasicUNet'")
    trained = pd.read_csv(root / "reports" / f"{NAME}-corruption-basic-5" / "training.csv")
    assert losses["loss"].tolist() == pytest.approx((trained["loss"] / 4).tolist(), abs=1e-6)
    assert losses["images"].iloc[0] == pytest.approx(1797 / 2, abs=10)
    unconditional = table["step"].str.contains("corruption|the same|DDPM with")
    assert table.loc[unconditional, "accuracy"].isna().all()
    assert table.loc[~unconditional, "accuracy"].notna().sum() == 5
    warned = [line for line in (folder / "tutorial.md").read_text(encoding="utf-8").splitlines() if "Warning" in line]
    assert len(warned) == 1
    assert "DDPM by hand, T = 300: this noise schedule leaves alpha\\_bar\\_T = 0.048" in warned[0]
    shown = ("corruption", "five_steps", "losses", "denoising_strip", "samples")
    assert {path.name for path in folder.iterdir()} == {
        "tutorial.csv", "losses.csv", "tutorial.md", "config.json", *(f"{name}.png" for name in shown)
    }  # fmt: skip


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    notebook = json.loads((PROJECT / "notebooks" / "tutorial.ipynb").read_text(encoding="utf-8"))
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    script = tmp_path / "lesson.py"
    script.write_text("\n\n".join(code), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)], env=os.environ | {"MPLBACKEND": "Agg"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
