"""Run every benchmark and write one table: `python -m benchmarks [FILE]`."""

import platform
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from benchmarks.arithmetic import share_of_matrix_rate
from benchmarks.contestants import Contestant, coursework, denoising_diffusion, diffusers_unet, this_lab
from benchmarks.growth import growth
from benchmarks.side_by_side import Row, side_by_side
from benchmarks.time_to_accuracy import DATASETS, judged, until_reached
from benchmarks.time_to_accuracy import this_lab as this_lab_on_images
from evaluator.tables import write_csv
from experiments.presets import DIGITS, ICLEVR_COURSEWORK, MNIST5K_QUICK
from lab.configuration.diffusion import DDIMConfig
from lab.configuration.networks import ContextUnetConfig, DenoiserConfig
from lab.machine.precision import chosen_precision

CPU = torch.device("cpu")
FEWEST_STEPS = 4
"""Sampling steps that reach the guided accuracy of 400 ancestral steps; without guidance, use the default number."""


def contestants(denoiser: DenoiserConfig, plain: DenoiserConfig, side: int, batch_size: int) -> list[Contestant]:
    """Return the coursework's recipe, this lab in float32 and in the machine's precision, and two libraries."""
    recipe = coursework(plain, side)
    lab = [
        this_lab(
            f"this lab, {precision}, {steps} steps",
            denoiser,
            replace(DIGITS.sampler, sampling_steps=steps),
            side,
            batch_size,
            precision,
        )
        for precision in dict.fromkeys(("float32", chosen_precision("auto", CPU, denoiser.width)))
        for steps in (DIGITS.sampler.sampling_steps, FEWEST_STEPS)
    ]
    return [
        recipe,
        *lab,
        diffusers_unet(recipe.parameters, side, DDPMScheduler(num_train_timesteps=400), 400),
        diffusers_unet(recipe.parameters, side, DDIMScheduler(num_train_timesteps=400), 50),
        denoising_diffusion(recipe.parameters, side),
    ]


def students(denoiser: DenoiserConfig, side: int, batch_size: int) -> list[Contestant]:
    """Return diffusers' DDIM in 50 steps and, of the same size, this lab's network in 50 and 8 and its students."""
    precision = chosen_precision("auto", CPU, denoiser.width)
    lab = [
        this_lab(
            f"this lab{', a student' if distilled else ''}, {precision}, {steps} steps",
            denoiser,
            DDIMConfig(sampling_steps=steps),
            side,
            batch_size,
            precision,
            distilled,
        )
        for distilled, steps in [(False, 50), (False, 8), *[(True, steps) for steps in (16, 8, 4, 2, 1)]]
    ]
    return [diffusers_unet(lab[0].parameters, side, DDIMScheduler(num_train_timesteps=400), 50), *lab]


def seconds_to_accuracy(name: str, wanted: float) -> Row:
    """Return this lab's seconds of training and sampling; `python -m benchmarks.time_to_accuracy` has the others'."""
    quick, preset, load = DATASETS[name]
    images, accuracy = judged(preset, load)
    last = until_reached(this_lab_on_images(quick, images), accuracy, wanted)[-1]
    return {
        "benchmark": f"{quick.name} to an accuracy of {wanted}, training and one sampling",
        "of": f"{last['accuracy']:.3f}",
        "seconds": float(last["seconds"]),
    }


def machine() -> dict[str, str]:
    """Return the machine, the versions and the commit of the measurements."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    units = [
        name
        for name, there in torch.cpu.get_capabilities().items()
        if there is True and ("avx512" in name or "amx" in name)
    ]
    return {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {' '.join(sorted(units))}",
        "versions": f"torch {torch.__version__}, "
        + ", ".join(f"{package} {version(package)}" for package in ("diffusers", "denoising-diffusion-pytorch")),
        "commit": commit.stdout.strip() or "unknown",
    }


def main(path: Path) -> None:
    """Run all benchmarks, print the table, and write it with the machine, the versions and the commit."""
    small, large = DIGITS.denoiser, ContextUnetConfig(n_feat=128)
    plain = ICLEVR_COURSEWORK.denoiser
    assert isinstance(small, ContextUnetConfig)
    assert isinstance(plain, ContextUnetConfig)
    rows: list[Row] = [
        *side_by_side(
            "28x28, n_feat 128", contestants(large, plain, 28, 16), 0, side=28, batch_size=16, rounds=3
        ),
        *side_by_side(
            "8x8, n_feat 32",
            contestants(small, replace(plain, n_feat=32, pool=0), 8, 64),
            reference=0,
            side=8,
            batch_size=64,
            rounds=5,
        ),
        *side_by_side(
            f"28x28, {MNIST5K_QUICK.name}",
            students(MNIST5K_QUICK.denoiser, 28, 16),
            reference=0,
            side=28,
            batch_size=16,
            rounds=3,
        ),
        *[
            row
            for precision in ("float32", "bfloat16")
            for row in share_of_matrix_rate(large, 28, precision)
        ],
        seconds_to_accuracy("digits", 0.95),
        *growth(),
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format="{:.3g}".format, na_rep=""))
    write_csv(path, table.assign(**machine()))
    print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "reports/reference/benchmark.csv"))
