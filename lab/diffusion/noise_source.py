"""The noise of sampling: the starting noise and, for stochastic samplers, the noise of each step."""

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
        seeds: integers for each image, like (seed, image index); different integers give different noise.
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


def _mixed_seed(numbers: tuple[int, ...]) -> int:
    low, high = np.random.SeedSequence(numbers).generate_state(2)
    return int(low) | (int(high) & 0x7FFFFFFF) << 32
