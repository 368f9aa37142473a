"""The command line as tests call it: tiny runs in folders of their own."""

import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch

import run_experiments

PROJECT = Path(__file__).parents[1]
TINY = shlex.split(
    "--denoiser.n-feat 8 --training.epochs 2 --training.checkpoints 2 --training.batch-size 128 "
    "--training.warmup-steps 2 --evaluator.width 4 --evaluator.epochs 3 --sampler.sampling-steps 3 "
    "--sweep.guidance-weights -1 0 2 --sweep.seeds 1"
)
TINY_TUTORIAL = shlex.split("--epochs 1 --batch-size 128 --seeds 1 --evaluator.width 4 --evaluator.epochs 3")
COURSEWORK_ON_DIGITS = shlex.split(
    "--data.dataset digits --data.image-size 0 --data.label-sets data/digits/test.json data/digits/new_test.json "
    "--denoiser.n-feat 8 --denoiser.pool 0 --training.epochs 2 --training.score-every 1 "
    "--evaluator.kind conv --evaluator.width 4 --evaluator.epochs 1 --sampler.sampling-steps 2 --pictures.steps 1 2"
)
"""Makes a small experiment of the presets of i-CLEVR's coursework."""
CPU = torch.device("cpu")
TIMING = ["seconds", "warm_up_seconds", "images_per_second"]
FILES = {
    *(f"{name}.csv" for name in ("sweep", "accuracy_by_checkpoint", "ranking", "per_class", "baselines", "evaluator")),
    "accuracy_by_size.csv", "accuracy_by_epoch.csv", "accuracy_by_class.png", "splits.csv",
    "training.csv", "report.md", "report.html", "config.json", "accuracy_by_checkpoint.tex", "ranking.tex",
    *(f"{name}.png" for name in ("samples", "accuracy_vs_weight", "accuracy_vs_epoch", "loss", "denoising_strip")),
    "images", "images_test.png", "images_new_test.png",
}  # fmt: skip


def command(*arguments: str, auto: str = "float32") -> list[str]:
    """Return a command line whose precision `auto` is the one named here, on every machine."""
    return [sys.executable, str(PROJECT / "tests" / "auto_precision.py"), auto, *arguments]


def run(root: Path, *arguments: str) -> int:
    """Run a command in this process, where torch is loaded already, and return its exit status."""
    return run_experiments.main([*arguments, "--root", str(root)])


def new_root(folder: Path) -> Path:
    """Copy what of data/ is in git, and none of the images that may lie there."""
    for path in (PROJECT / "data").glob("*/*.json"):
        if path.stem in ("objects", "test", "new_test", "unseen", "more"):
            (copy := folder / path.relative_to(PROJECT)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    return folder


def table(root: Path, name: str = "sweep", experiment: str = "digits") -> pd.DataFrame:
    return pd.read_csv(root / "reports" / experiment / f"{name}.csv")


Mistake = Callable[..., None]
