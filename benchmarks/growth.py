"""Time and memory of a sweep as cells, images, steps and classes grow tenfold, and the share outside the network.

Every sweep runs in a separate process, which reports its peak memory when it ends.
"""

import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.side_by_side import Row, spread
from lab.configuration.diffusion import CosineScheduleConfig, DPMSolverConfig
from lab.configuration.networks import ContextUnetConfig
from lab.data.labels import ClassVocabulary
from lab.guidance.classifier_free import PlainMethod
from lab.networks.context_unet import ContextUnet
from lab.networks.registry import build_denoiser
from lab.sweep.cells import SweepCell
from lab.sweep.run import Engine, run_sweep
from lab.training.checkpoints import Checkpoint, save_checkpoint
from lab.types import ClassLogits, Images, PixelImages

START = {"cells": 2, "images": 100, "steps": 8, "classes": 10}
SHAPE = (1, 8, 8)
ROUNDS = 3


def growth() -> list[Row]:
    """Return a row for the initial sweep and a row for each of its sizes multiplied by ten."""
    rows = []
    for name, sizes in {
        "to begin with": START,
        **{f"10 x {key}": START | {key: 10 * START[key]} for key in START},
    }.items():
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            measured = alone.submit(one_sweep, **sizes).result()
        row: Row = {"benchmark": "a sweep grows", "of": name}
        rows.append(row | measured)
    first = rows[0]
    return [row | {"ratio": float(row["seconds"]) / float(first["seconds"])} for row in rows]


def one_sweep(cells: int, images: int, steps: int, classes: int) -> Row:
    """Return the seconds of a sweep, the share of them outside the network, and the peak memory in GiB.

    No evaluator scores the images, because an evaluator is also a network.
    """
    vocabulary = ClassVocabulary(tuple(f"class {number}" for number in range(classes)))
    config, schedule = ContextUnetConfig(n_feat=32), CosineScheduleConfig()
    network = build_denoiser(config, SHAPE, vocabulary.names, schedule, 0)
    checkpoint = Checkpoint(config, schedule, SHAPE, vocabulary, 1, 1, {}, network.state_dict())
    label_sets = tuple((vocabulary.names[image % classes],) for image in range(images))
    cells_to_run = [
        SweepCell(
            checkpoint="epoch0001",
            epoch=1,
            step=1,
            checkpoint_digest="",
            evaluator_digest="",
            label_set_file="test",
            label_sets=label_sets,
            method_name="plain",
            method=PlainMethod(),
            guidance_weight=1 + cell / 10,
            sampler=DPMSolverConfig(sampling_steps=steps),
            precision="float32",
            seeds=1,
        )
        for cell in range(cells)
    ]

    def judge(pixels: PixelImages) -> ClassLogits:
        return torch.zeros(len(pixels), classes)

    engine = Engine(judge, torch.device("cpu"), False, 0)
    taken, outside = [], []
    # The first round does not count, because it includes the one-time work of torch and the processor.
    for _ in range(1 + ROUNDS):
        with tempfile.TemporaryDirectory() as name, NetworkTimer() as timer:
            folder = Path(name)
            save_checkpoint(folder / "epoch0001.pt", checkpoint)
            started = time.perf_counter()
            for _ in run_sweep(cells_to_run, folder, vocabulary, engine, folder / "cells"):
                pass
            taken.append(time.perf_counter() - started)
            outside.append(1 - timer.seconds / taken[-1])
    # Not getrusage: a process inherits its peak from the process that started it.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    memory = int(status.split("VmHWM:")[1].split()[0]) / 2**20
    return (
        spread("seconds", np.asarray(taken[1:])) | spread("outside_network", np.asarray(outside[1:])) | {"GiB": memory}
    )


class NetworkTimer:
    """Add up the seconds spent in calls of ContextUnets inside a with block."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> "NetworkTimer":
        forward = ContextUnet.forward

        def timed(*arguments: Any) -> Images:
            began = time.perf_counter()
            predicted = forward(*arguments)
            self.seconds += time.perf_counter() - began
            return predicted

        # Not torch's global hooks: every module of the network would call them and slow the network down.
        self.patched = patch.object(ContextUnet, "forward", timed)
        self.patched.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.patched.stop()
