"""Seconds of an optimizer step in one process and in several, on the CPU.

python -m benchmarks.several_processes digits
torchrun --nproc-per-node 2 -m benchmarks.several_processes digits
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from experiments.presets import DIGITS, MNIST5K
from lab.data.datasets import digits
from lab.data.labelled_images import one_label_images
from lab.machine.computation import Computation
from lab.machine.ranks import joined
from lab.training.recipe import Recipe
from lab.training.runs import TrainingRun

WARM_UP, TIMED = 5, 30


def measure(name: str, processes: int) -> None:
    """Time the steps of a preset, on random images of its size."""
    preset, side = {"digits": (DIGITS, 8), "mnist5k": (MNIST5K, 28)}[name]
    pixels = torch.randint(256, (1000, 1, side, side), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    images = one_label_images(pixels, torch.arange(1000) % 10, digits().vocabulary)
    recipe = Recipe(preset.denoiser, preset.schedule, preset.training)
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        steps = TrainingRun(Path(folder), images, recipe, {"training": preset.training}, Computation()).steps()
        for _ in range(WARM_UP + TIMED):
            started = time.perf_counter()
            next(steps)
            seconds.append(time.perf_counter() - started)
        threads = torch.get_num_threads()
        del steps
    print(
        f"{name}: {processes} x {threads} threads, median {1000 * statistics.median(seconds[WARM_UP:]):.1f} ms a step"
    )


if __name__ == "__main__":
    with joined() as ranks:
        if ranks.rank:
            ranks.serve()
        else:
            measure(sys.argv[1], ranks.size)
