"""Devices: the choice between CPU, CUDA and MPS, and the GPUs that several workers share."""

from collections.abc import Sequence

import torch

from lab.errors import LabError


def chosen_device(name: str) -> torch.device:
    """Return the device with this name, or the fastest kind of device for "auto".

    Raises:
        LabError: this machine has no such device; the message lists the devices it has.
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
        raise LabError(f"--device is {name!r}; this machine has no such device; choose from auto, {', '.join(present)}")
    # float32 means float32. By default, cuDNN rounds convolutions to 10 bits, so images would depend on their batch.
    torch.backends.cudnn.allow_tf32 = False
    return torch.device(name)


def chosen_devices(name: str) -> list[torch.device]:
    """Return the devices that workers share: for "auto", all GPUs if there are several, otherwise the chosen device.

    Raises:
        LabError: this machine has no such device.
    """
    first = chosen_device(name)
    if name == "auto" and first.type == "cuda":
        return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    return [first]


def dealt(devices: Sequence[torch.device], worker: int) -> torch.device:
    """Return the device of a worker with this number: the workers take the devices in turn."""
    return devices[worker % len(devices)]
