"""Computation: the device, precision and compilation of a network."""

from dataclasses import dataclass, field

import torch

from lab.machine.devices import chosen_device
from lab.machine.precision import chosen_precision


@dataclass(frozen=True)
class Computation:
    """Where and how a network is computed. It affects the speed and the rounding of results, nothing else.

    Args:
        device: the device of the network.
        precision: the network's arithmetic, "float32" or "bfloat16"; see `lab.machine.precision`.
        compiled: whether torch compiles the network.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: str = "float32"
    compiled: bool = False


def chosen_computation(device: str, precision: str, width: int, compiled: bool = False) -> Computation:
    """Return the computation for a device and a precision by name.

    Args:
        device: "auto" or the name of a device; see `lab.machine.devices.chosen_device`.
        precision: "auto", "float32" or "bfloat16"; see `lab.machine.precision.chosen_precision`.
        width: channels of the network's feature maps at full resolution, which determine the "auto" precision.
        compiled: whether torch compiles the network.

    Raises:
        LabError: the device does not exist, or does not support the precision.
    """
    chosen = chosen_device(device)
    return Computation(chosen, chosen_precision(precision, chosen, width), compiled)
