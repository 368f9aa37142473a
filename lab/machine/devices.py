"""Devices: where to compute."""

import torch

from lab.errors import LabError


def chosen_device(name: str) -> torch.device:
    """Return the device of this name, or the best there is for "auto".

    Raises:
        LabError: no such device here; the message names those there are.
    """
    present = ["cpu"]
    if torch.backends.mps.is_available():
        present.insert(0, "mps")
    present[:0] = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if name == "auto":
        name = present[0]
    if name == "cuda" and "cuda:0" in present:
        name = "cuda:0"
    if name not in present:
        raise LabError(f"--device is {name!r}, which is not on this machine; here are: auto, {', '.join(present)}")
    # float32 means float32: cuDNN would otherwise round convolutions to 10 bits, and images depend on their batch.
    torch.backends.cudnn.allow_tf32 = False
    return torch.device(name)
