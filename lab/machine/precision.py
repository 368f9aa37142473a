"""Precision: the arithmetic that the network computes in, and whether torch compiles it.

bfloat16 has float32's range and three digits. Where the machine has units for it, multiplications are several times
faster; where it has none, they are slower than float32. Only the network is computed in it (autocast, which keeps what
needs digits in float32): weights, optimizer, noise and the sampler's steps are float32 everywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from lab.errors import LabError
from lab.types import Conditions, Images, Timesteps

Network = Callable[[Images, Timesteps, Conditions], Images]


def has_bfloat16_units(device: torch.device) -> bool:
    """Ask torch whether this device multiplies bfloat16 in units made for it."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        found = torch.cpu.get_capabilities()
        return bool(found.get("amx_bf16") or found.get("avx512_bf16"))
    return False


WIDE_ENOUGH = 48
"""Channels at full side from which a CPU's bfloat16 units pay; below, casts cost more than the products save."""


def chosen_precision(name: str, device: torch.device, width: int) -> str:
    """Return "float32" or "bfloat16": the one of this name, or for "auto" the one that is faster for this network.

    The rule is fixed and measures nothing, so that a machine always chooses the same;
    `benchmarks/precision_and_threads.py` has the measurement behind it.

    Args:
        name: "auto", "float32" or "bfloat16".
        device: of the network.
        width: channels of its feature maps at full side.

    Raises:
        LabError: bfloat16 on a device that has no autocast to it.
    """
    if name == "auto":
        pays = device.type != "cpu" or width >= WIDE_ENOUGH
        return "bfloat16" if pays and has_bfloat16_units(device) else "float32"
    if name == "bfloat16" and device.type not in ("cuda", "cpu"):
        raise LabError(f"--precision is bfloat16, which {device.type} is not used with here; take auto or float32")
    return name


def as_compiled(network: nn.Module) -> Network:
    """Return a network that torch compiles when it is first called; on a GPU its calls become CUDA graphs."""
    device = next(network.parameters()).device
    compiled: Network = torch.compile(network, mode="reduce-overhead" if device.type == "cuda" else "default")
    return compiled


@dataclass(frozen=True)
class InPrecision:
    """A network computed in a precision, whose input and output are float32.

    Args:
        network: maps (x_t, timesteps, conditions) to an image.
        precision: "float32" or "bfloat16".
    """

    network: Network
    precision: str

    def __call__(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Return what the network returns, in float32."""
        # Before the network, so that a compiled one has no input of another device.
        timesteps = timesteps.to(x_t.device, non_blocking=True)
        if self.precision == "float32":
            return self.network(x_t, timesteps, conditions)
        with torch.autocast(x_t.device.type, torch.bfloat16):
            return self.network(x_t, timesteps, conditions).float()
