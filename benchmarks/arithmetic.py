"""The share of the machine's own matrix-product rate that sampling and training reach."""

from collections.abc import Callable

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.side_by_side import Row, seconds_of, spread
from lab.configuration import DenoiserConfig, ScheduleConfig
from lab.memory import blank_inputs
from lab.networks import build_denoiser
from lab.precision import InPrecision

SIZE, ROUNDS, IMAGES = 2048, 7, 64
CPU = torch.device("cpu")


def share_of_matrix_rate(denoiser: DenoiserConfig, side: int, precision: str) -> list[Row]:
    """Return rows for a forward pass and for one with the pass back, timed in turn with a product of large matrices.

    Args:
        denoiser: of the network.
        side: of the images.
        precision: of both, network and matrices.
    """
    network = build_denoiser(denoiser, (1, side, side), 10, ScheduleConfig(), 0)
    computed = InPrecision(network, precision)
    inputs = blank_inputs(IMAGES, (1, side, side), 10, CPU)
    matrix = torch.randn(SIZE, SIZE, dtype=getattr(torch, precision))

    def forward() -> None:
        with torch.inference_mode():
            computed(*inputs)

    def step() -> None:
        network.zero_grad()
        computed(*inputs).square().mean().backward()  # type: ignore[no-untyped-call]  # torch's own signature is untyped

    backward = "training, forward and backward"
    rates: dict[str, list[float]] = {"matrix product": [], "sampling": [], backward: []}
    operations = {"matrix product": 2 * SIZE**3}
    for work, once in (("sampling", forward), (backward, step)):
        with FlopCounterMode(display=False) as counter:
            once()
        operations[work] = counter.get_total_flops()
    calls: dict[str, Callable[[], object]] = {
        "matrix product": lambda: matrix @ matrix,
        "sampling": forward,
        backward: step,
    }
    for _ in range(1 + ROUNDS):
        for work, call in calls.items():
            rates[work].append(operations[work] / seconds_of(call) / 1e9)
    reference = np.asarray(rates["matrix product"][1:])
    return [
        {"benchmark": f"billion operations a second, {precision}, {side}x{side}, n_feat {denoiser.n_feat}", "of": work}
        | spread("rate", np.asarray(found[1:]))
        | spread("ratio", np.asarray(found[1:]) / reference)
        for work, found in rates.items()
    ]
