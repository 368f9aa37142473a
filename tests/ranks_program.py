"""Trains the cases of `test_ranks.py` in a folder and writes what came of it: started by torchrun, or alone."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from evaluator.classifiers.runs import ClassifierRun
from evaluator.configuration import EvaluatorConfig
from lab.configuration.diffusion import CosineScheduleConfig
from lab.configuration.networks import ContextUnetConfig
from lab.configuration.training import TrainingConfig
from lab.data.datasets import digits
from lab.machine.computation import Computation
from lab.machine.ranks import joined, present_ranks
from lab.training.recipe import Recipe
from lab.training.runs import TrainingRun, trainer_from

IMAGES = digits().subset(torch.arange(90))
PLAIN = TrainingConfig(epochs=2, batch_size=40, learning_rate=1e-3, warmup_steps=2, checkpoints=1)
NETWORK = ContextUnetConfig(n_feat=16, bottleneck="map")
ATTENDED = replace(NETWORK, attention="objects", conditioning="blocks", prediction="v", null_condition="learned")
RECIPES = {
    "adamw": Recipe(NETWORK, training=replace(PLAIN, mirror=True)),
    # Batches of 44, 44 and 2 images: fewer than three ranks.
    "small last batch": Recipe(replace(NETWORK, norm="batch"), training=replace(PLAIN, batch_size=44), seed=1),
    # 90 images in batches of 40, 40 and 10, which neither 2 nor 3 divides evenly.
    "batch norm": Recipe(replace(NETWORK, norm="batch"), CosineScheduleConfig(), PLAIN),
    "muon": Recipe(ATTENDED, training=replace(PLAIN, optimizer="muon", weighting="min_snr", context_dropout=0.5)),
}
# BatchNorm, dropout and jitter; batches of 40, 40 and 10.
JUDGE = EvaluatorConfig(width=8, epochs=3, batch_size=40, lighting=0.2, noise=0.05)


JUDGES = {"judge": JUDGE, "still judge": replace(JUDGE, epochs=1, learning_rate=1e-12)}


def judging(folder: Path, name: str) -> ClassifierRun:
    device = torch.device("cpu")
    return ClassifierRun(folder / f"{name}_training.pt", JUDGES[name], IMAGES, 0, "float32", device, {})


def opened(folder: Path, name: str) -> TrainingRun:
    return TrainingRun(folder / name, IMAGES, RECIPES[name], {"training": RECIPES[name].training}, Computation())


def write_weights(folder: Path, *begun: Any) -> None:
    """Train to the end and write this rank's weights, which must be every other's."""
    trainer = trainer_from(*begun)
    for _ in trainer.steps():
        pass
    torch.save(trainer.denoiser.state_dict(), folder / f"rank{present_ranks().rank}.pt")


def main(folder: Path) -> None:
    for name in RECIPES:
        run = opened(folder, name)
        steps = list(run.steps())
        found = {"losses": [step.loss for step in steps], "norms": [step.gradient_norm for step in steps]}
        torch.save(found | {"weights": run.checkpoint().weights}, folder / f"{name}.pt")
    for name in JUDGES:
        judge = judging(folder, name)
        losses = list(judge.epochs())
        torch.save({"losses": losses, "weights": judge.training.classifier.state_dict()}, folder / f"{name}.pt")
    run = opened(folder / "every rank", "muon")
    begun = (folder, run.recipe, run.dataset, run.computation, run.untrained, None)
    present_ranks().call(write_weights, *begun)
    write_weights(*begun)


if __name__ == "__main__":
    with joined() as ranks:
        if ranks.rank:
            ranks.serve()
        else:
            main(Path(sys.argv[1]))
