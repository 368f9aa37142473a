"""Denoisers by name: networks that are shown x_t, told the timestep and the condition, and predict the noise in x_t.

Or the clean image, or v; `lab/diffusion/objectives.py` makes each a prediction of the noise.
"""

from collections.abc import Callable

import torch
from torch import nn

from lab.configuration.diffusion import ScheduleConfig
from lab.configuration.networks import DenoiserConfig
from lab.networks.basic_unet import BasicUNet
from lab.networks.context_unet import ContextUnet
from lab.networks.diffusers_unet import DiffusersUNet

NETWORKS: dict[str, Callable[[DenoiserConfig, tuple[int, int, int], int, int], nn.Module]] = {
    "context_unet": ContextUnet,
    "basic_unet": lambda config, image_shape, classes, timesteps: BasicUNet(config, image_shape),
    "unet2d": lambda config, image_shape, classes, timesteps: DiffusersUNet(config, image_shape, None),
    "conditional_unet2d": lambda config, image_shape, classes, timesteps: DiffusersUNet(config, image_shape, classes),
}
"""The networks, of their configuration, the images' shape, the number of classes K, and T."""


def build_denoiser(
    config: DenoiserConfig, image_shape: tuple[int, int, int], classes: int, schedule: ScheduleConfig, seed: int
) -> nn.Module:
    """Return a freshly initialised denoiser on the CPU; the seed decides its weights and the global RNG is left alone.

    Its memory format is channels_last, which convolutions are faster in on a CPU as on a GPU.

    Raises:
        LabError: the network does not fit the images, or needs a package that is not installed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = NETWORKS[config.network](config, image_shape, classes, schedule.timesteps)
    network.to(memory_format=torch.channels_last)
    return network
