"""Denoisers by settings class: networks that predict the noise in x_t from x_t, the timestep and the condition.

Or the clean image, or v; `lab/diffusion/objectives.py` makes each a prediction of the noise.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lab.configuration.diffusion import ScheduleConfig
from lab.configuration.networks import (
    BasicUNetConfig,
    ContextUnetConfig,
    DenoiserConfig,
    DistilledUnetConfig,
    ImportedUNet2DConfig,
    UNet2DConfig,
)
from lab.errors import LabError
from lab.networks.basic_unet import BasicUNet
from lab.networks.context_unet import ContextUnet
from lab.networks.diffusers_unet import DiffusersUNet, ImportedUNet
from lab.networks.distilled_unet import DistilledUnet
from lab.types import ClassNames

NETWORKS: dict[type, Callable[[Any, tuple[int, int, int], ClassNames, int], nn.Module]] = {
    ContextUnetConfig: ContextUnet,
    DistilledUnetConfig: DistilledUnet,
    BasicUNetConfig: lambda config, image_shape, classes, timesteps: BasicUNet(config, image_shape),
    UNet2DConfig: lambda config, image_shape, classes, timesteps: DiffusersUNet(config, image_shape, len(classes)),
    ImportedUNet2DConfig: lambda config, image_shape, classes, timesteps: ImportedUNet(
        config, image_shape, len(classes)
    ),
}
"""The networks: the settings class of each kind, and what makes the network of them.

It is given the settings, the images' shape, the names of the classes, and T.
"""


def build_denoiser(
    config: DenoiserConfig,
    image_shape: tuple[int, int, int],
    classes: ClassNames,
    schedule: ScheduleConfig,
    seed: int,
) -> nn.Module:
    """Return a freshly initialised denoiser on the CPU; the seed decides its weights and the global RNG is left alone.

    Its memory format is channels_last, which convolutions are faster in on a CPU as on a GPU.

    Raises:
        LabError: the network does not fit the images, needs a package that is not installed, or is not in `NETWORKS`.
    """
    if type(config) not in NETWORKS:
        raise LabError(f"{type(config).__name__} is not a network; add it to lab.networks.registry.NETWORKS")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = NETWORKS[type(config)](config, image_shape, classes, schedule.timesteps)
    network.to(memory_format=torch.channels_last)
    return network
