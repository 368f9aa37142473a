"""The noise of sampling: the starting noise, the noise of stochastic samplers' steps, and that of random guidance."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from lab.types import Images

NoiseDraw = Callable[[tuple[int, ...], torch.Generator], Tensor]
"""A function that draws noise of a shape from a generator."""


def normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw standard normal noise of this shape."""
    return torch.randn(shape, generator=generator)


def uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw noise of this shape, uniform in [-1, 1]."""
    return 2 * torch.rand(shape, generator=generator) - 1


class NoiseSource:
    """The noise of a batch of images, drawn on the CPU from one generator per image.

    Image i of seed s gets the same noise in every batch and on every device.

    Args:
        seeds: integers for each image, like (seed, image index). Two images whose integers differ have the same noise
            with a probability of 2^-32: torch's generator on the CPU keeps 32 bits of a seed.
        image_shape: (channels, height, width).
        noise: draws noise of a shape from a generator, like `NoiseSchedule.noise`; standard normal by default.
    """

    def __init__(
        self,
        seeds: Sequence[tuple[int, ...]],
        image_shape: tuple[int, int, int],
        noise: NoiseDraw = normal,
    ) -> None:
        self.image_shape = image_shape
        self.drawn = noise
        self.generators = [torch.Generator().manual_seed(_mixed_seed(numbers)) for numbers in seeds]

    def draw(self) -> Images:
        """Draw the next noise of every image, shape (len(seeds), C, H, W), float32 on the CPU."""
        return torch.stack([self.drawn(self.image_shape, generator) for generator in self.generators])


class StepRandomness:
    """The random numbers of guidance, drawn on the CPU from one generator per image and timestep.

    Image i of seed s gets the same numbers at timestep t in every batch and on every device, however often a sampler
    calls the predictor before. They are independent of its `NoiseSource`.

    Args:
        seeds: integers for each image of a batch, as of its `NoiseSource`.
    """

    def __init__(self, seeds: Sequence[tuple[int, ...]] = ()) -> None:
        self.seeds = seeds

    def draw(self, timestep: int, drawn: Callable[[torch.Generator], Tensor]) -> Tensor:
        """Return what `drawn` draws for every image at this timestep, stacked along a first dimension."""
        seeds = (_mixed_seed((_OF_GUIDANCE, *numbers, timestep)) for numbers in self.seeds)
        return torch.stack([drawn(torch.Generator().manual_seed(seed)) for seed in seeds])


_OF_GUIDANCE = 0x9E3779B9
"""The first of the numbers that seed guidance, so that they differ from those of the noise."""


def _mixed_seed(numbers: tuple[int, ...]) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
