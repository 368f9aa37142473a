"""Memory: how many images a network can process at once, measured on this machine."""

from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from lab.types import Conditions, Images, NoisePredictor, Timesteps

PROBED = 4
"""Number of images in the trial call."""
SHARE = 0.25
"""The share of total memory that a batch may use. Free memory varies; the same machine must choose the same batches."""
LARGEST = 256
"""The largest batch, in images. On a CPU, larger batches and batches below 64 were up to a third slower."""


Inputs = tuple[Images, Timesteps, Conditions]


def blank_inputs(images: int, image_shape: tuple[int, int, int], classes: int, device: torch.device) -> Inputs:
    """Return inputs of a noise predictor: blank images of class 0, a condition that every network accepts.

    The cost of a call does not depend on the values.
    """
    x_t = torch.zeros(images, *image_shape, device=device)
    conditions = torch.zeros(images, classes, device=device)
    conditions[:, :1] = 1
    return x_t, torch.zeros(images, dtype=torch.int64, device=device), conditions


@torch.inference_mode()
def images_that_fit(
    predictor: NoisePredictor, image_shape: tuple[int, int, int], classes: int, device: torch.device
) -> int:
    """Return how many images can be sampled together, from 1 to LARGEST.

    Args:
        predictor: the noise predictor; it is called once, on `PROBED` images.
        image_shape: (channels, height, width).
        classes: K, the length of a condition.
        device: the device of the predictor.
    """
    inputs = blank_inputs(PROBED, image_shape, classes, device)
    memory, taken = (_on_gpu if device.type == "cuda" else _in_main_memory)(predictor, inputs, device)
    # Guidance calls the network with two halves.
    return max(1, min(LARGEST, int(SHARE * memory / (2 * taken / PROBED))))


def _on_gpu(predictor: NoisePredictor, inputs: Inputs, device: torch.device) -> tuple[int, int]:
    """Return the bytes of the device's memory, and the peak of one call."""
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    predictor(*inputs)
    return torch.cuda.mem_get_info(device)[1], max(1, torch.cuda.max_memory_allocated(device) - before)


def _in_main_memory(predictor: NoisePredictor, inputs: Inputs, device: torch.device) -> tuple[int, int]:
    """Return the bytes of the machine's memory and of all layers' outputs in one call, an upper bound of its peak."""
    returned = 0

    def count(module: nn.Module, _: Any, output: object) -> None:
        nonlocal returned
        if isinstance(output, Tensor) and not list(module.children()):
            returned += output.nbytes

    hook = register_module_forward_hook(count)
    try:
        predictor(*inputs)
    finally:
        hook.remove()
    return psutil.virtual_memory().total, max(1, returned)
