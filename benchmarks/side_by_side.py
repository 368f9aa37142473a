"""Images per second of training and sampling, timed alternately in one process so that drift affects all equally."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.contestants import Contestant

Row = dict[str, str | float]


def seconds_of(call: Callable[[], object]) -> float:
    """Return the duration of a call in seconds."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def side_by_side(
    title: str, contestants: Sequence[Contestant], reference: int, side: int, batch_size: int, rounds: int
) -> list[Row]:
    """Return each contestant's images per second and their ratio to a reference, with the spread over rounds.

    Long samplers are timed for a few steps and extrapolated to all steps, because every step has the same cost.

    Args:
        title: title of the comparison.
        contestants: the contestants, in the order in which each round times them.
        reference: index of the contestant that ratios refer to.
        side: side of the images, in pixels.
        batch_size: images per step.
        rounds: number of rounds that count, after one that does not.
    """
    images, classes = torch.rand(batch_size, 1, side, side) * 2 - 1, torch.arange(batch_size) % 10
    calls: dict[str, Callable[[Contestant], float]] = {
        "training": lambda each: batch_size / seconds_of(lambda: each.train(images, classes)),
        "sampling": lambda each: batch_size * min(8, each.sampling_steps) / each.sampling_steps
        / seconds_of(lambda: each.sample(classes, min(8, each.sampling_steps))),
    }  # fmt: skip
    rates: dict[str, list[list[float]]] = {work: [] for work in calls}
    for _ in tqdm(range(1 + rounds), desc=title, unit="round"):
        for work, rate in calls.items():
            rates[work].append([rate(contestant) for contestant in contestants])
    rows: list[Row] = []
    for work, of_work in rates.items():
        table = np.asarray(of_work)[1:]
        for place, contestant in enumerate(contestants):
            row: Row = {"benchmark": f"{work}, {title}", "of": contestant.name, "parameters": contestant.parameters}
            row |= spread("images_per_second", table[:, place])
            rows.append(row | spread("ratio", table[:, place] / table[:, reference]))
    return rows


def spread(name: str, values: np.ndarray) -> Row:
    """Return the median, the minimum and the maximum over rounds."""
    return {name: float(np.median(values)), f"{name}_low": float(values.min()), f"{name}_high": float(values.max())}
