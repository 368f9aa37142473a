"""Operations per second of sampling and training, as a share of the machine's matrix-product rate."""

from collections.abc import Callable

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.contestants import CLASSES, this_lab
from benchmarks.side_by_side import Row, seconds_of, spread
from lab.configuration.diffusion import DPMSolverConfig
from lab.configuration.networks import ContextUnetConfig

SIZE, ROUNDS, IMAGES, STEPS = 2048, 7, 32, 2


def share_of_matrix_rate(denoiser: ContextUnetConfig, side: int, precision: str) -> list[Row]:
    """Return rows for sampling and training, timed alternately with a product of large matrices.

    Sampling runs sampler steps with conditional and unconditional predictions; training includes optimizer and EMA.

    Args:
        denoiser: settings of the network.
        side: side of the images, in pixels.
        precision: precision of the network and the matrices.
    """
    lab = this_lab("", denoiser, DPMSolverConfig(), side, IMAGES, precision)
    classes, blank = torch.arange(IMAGES) % CLASSES, torch.zeros(IMAGES, 1, side, side)
    matrix = torch.randn(SIZE, SIZE, dtype=getattr(torch, precision))
    calls: dict[str, Callable[[], object]] = {
        "matrix product": lambda: matrix @ matrix,
        "sampling": lambda: lab.sample(classes, STEPS),
        "training": lambda: lab.train(blank, classes),
    }
    operations, rates = {}, {}
    for work, call in calls.items():
        with FlopCounterMode(display=False) as counter:
            call()
        operations[work], rates[work] = counter.get_total_flops(), list[float]()
    for _ in range(1 + ROUNDS):
        for work, call in calls.items():
            rates[work].append(operations[work] / seconds_of(call) / 1e9)
    reference = np.asarray(rates["matrix product"][1:])
    return [
        {"benchmark": f"billion operations a second, {precision}, {side}x{side}, n_feat {denoiser.n_feat}", "of": work}
        | spread("rate", np.asarray(measured[1:]))
        | spread("ratio", np.asarray(measured[1:]) / reference)
        for work, measured in rates.items()
    ]
