"""Computation: where and in which arithmetic a network is computed."""

from dataclasses import dataclass, field

import torch

from lab.machine.devices import chosen_device
from lab.machine.precision import chosen_precision


@dataclass(frozen=True)
class Computation:
    """Where and how a network is computed. It decides the speed and the last bits, nothing else.

    Args:
        device: where.
        precision: "float32", or "bfloat16" for the network's arithmetic; see `lab.machine.precision`.
        compiled: whether torch compiles the network.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: str = "float32"
    compiled: bool = False


def chosen_computation(device: str, precision: str, width: int, compiled: bool = False) -> Computation:
    """Return the computation that these names choose.

    Args:
        device: "auto", or a device's name; see `lab.machine.devices.chosen_device`.
        precision: "auto", "float32" or "bfloat16"; see `lab.machine.precision.chosen_precision`.
        width: channels of the network's feature maps at full side, which decide what "auto" precision is.
        compiled: whether torch compiles the network.

    Raises:
        LabError: the device is not there, or has no such precision.
    """
    chosen = chosen_device(device)
    return Computation(chosen, chosen_precision(precision, chosen, width), compiled)
