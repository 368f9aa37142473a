"""Precision: the arithmetic of the network, and whether torch compiles it.

bfloat16 has the range of float32 and three decimal digits. Multiplications are several times faster than in float32 on
a machine with bfloat16 units, and slower on a machine without them. Only the network is computed in bfloat16, by
autocast, which keeps operations that need more digits in float32. Weights, optimizer, noise and the sampler's steps
are always float32.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from lab.errors import LabError
from lab.types import Conditions, Images, Timesteps

Network = Callable[[Images, Timesteps, Conditions], Images]


def has_bfloat16_units(device: torch.device) -> bool:
    """Whether this device has hardware units for bfloat16 multiplication, according to torch."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    return False


WIDE_ENOUGH = 48
"""Channels at full resolution from which bfloat16 is faster on a CPU. Below, casts cost more than products save."""


def chosen_precision(name: str, device: torch.device, width: int) -> str:
    """Return the precision by name; "auto" gives the faster of "float32" and "bfloat16" for this network.

    "auto" follows a fixed rule and measures nothing, so a machine always makes the same choice. The rule comes from
    `benchmarks/precision_and_threads.py`.

    Args:
        name: "auto", "float32" or "bfloat16".
        device: the device of the network.
        width: channels of the network's feature maps at full resolution.

    Raises:
        LabError: the precision is bfloat16 and the device is neither CUDA nor CPU.
    """
    if name == "auto":
        pays = device.type != "cpu" or width >= WIDE_ENOUGH
        return "bfloat16" if pays and has_bfloat16_units(device) else "float32"
    if name == "bfloat16" and device.type not in ("cuda", "cpu"):
        raise LabError(f"--precision is bfloat16, but {device.type} supports only float32 here; use auto or float32")
    return name


def as_compiled(network: nn.Module) -> Network:
    """Return a network that torch compiles at its first call. On a GPU, its calls run as CUDA graphs."""
    device = next(network.parameters()).device
    compiled: Network = torch.compile(network, mode="reduce-overhead" if device.type == "cuda" else "default")
    return compiled


@dataclass(frozen=True)
class InPrecision:
    """A network that computes in a given precision. Its input and output are float32.

    Args:
        network: maps (x_t, timesteps, conditions) to an image.
        precision: "float32" or "bfloat16".
    """

    network: Network
    precision: str

    def __call__(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Return the network's output in float32."""
        # Outside the network, so that all inputs of a compiled network are on its device.
        timesteps = timesteps.to(x_t.device, non_blocking=True)
        if self.precision == "float32":
            return self.network(x_t, timesteps, conditions)
        with torch.autocast(x_t.device.type, torch.bfloat16):
            return self.network(x_t, timesteps, conditions).float()
