"""The digits preset from nothing, held to what it promises."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

PROJECT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_digits_preset_keeps_its_promises(tmp_path: Path) -> None:
    shutil.copytree(PROJECT / "data" / "digits", tmp_path / "data" / "digits")
    # As a user runs it: on as many threads as torch chooses, not on the tests' one.
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = [sys.executable, str(PROJECT / "run_experiments.py"), "digits", "--root", str(tmp_path)]
    subprocess.run(command, check=True, env=environment, capture_output=True)

    reports = tmp_path / "reports" / "digits"
    evaluator, ranked = pd.read_csv(reports / "evaluator.csv"), pd.read_csv(reports / "ranking.csv")
    sweep = pd.read_csv(reports / "sweep.csv")
    assert (evaluator["accuracy"] >= 0.98).all()
    assert (ranked.head(1)["new_test"] >= 0.98).all()
    assert (sweep["images"] >= 500).all()
    last = sweep[sweep["epoch"] == sweep["epoch"].max()].set_index(["label_set", "guidance_weight"])["accuracy"]
    for label_set in ("test", "new_test"):
        assert last[label_set, -1.0] == pytest.approx(0.1, abs=0.05)
        assert last[label_set, 2.0] > last[label_set, 0.0]
    assert sweep["checkpoint"].nunique() >= 4
