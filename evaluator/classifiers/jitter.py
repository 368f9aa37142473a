"""Jitter: small random changes of the images that an evaluator is trained on.

Changes of place suit every data set. Changes of light, blur and noise make an evaluator read pictures that
another camera, another renderer or a generator made.
"""

import math

import torch
from torch import Tensor, nn

from evaluator.configuration import EvaluatorConfig
from lab.data.labelled_images import mirrored_at_random
from lab.types import Images

BLUR_REACH = 3
"""Pixels to each side that a blur averages over."""


def jittered(images: Images, config: EvaluatorConfig, generator: torch.Generator) -> Images:
    """Change each image independently, by no more than the settings allow.

    Args:
        images: (B, C, H, W) in [-1, 1].
        config: rotation_degrees, scaling, shift, surroundings, mirror, lighting, blur and noise.
        generator: the random generator, on the CPU.
    """
    changed = moved(images, config, generator)
    if config.lighting:
        changed = lit(changed, config.lighting, generator)
    if config.blur:
        changed = blurred(changed, _uniform(1, (len(images),), generator).abs() * config.blur)
    if config.noise:
        deviation = _uniform(1, (len(images), 1, 1, 1), generator).abs() * config.noise
        changed = changed + deviation * torch.randn(images.shape, generator=generator)
    return changed


def moved(images: Images, config: EvaluatorConfig, generator: torch.Generator) -> Images:
    """Rotate, scale and shift each image independently, and mirror half of them if `config.mirror` is set.

    Args:
        images: (B, C, H, W) in [-1, 1].
        config: rotation_degrees, scaling and shift bound the changes, which are uniform in both directions;
            surroundings chooses the padding.
        generator: the random generator, on the CPU.
    """

    def uniform(largest: float, *shape: int) -> Tensor:
        return _uniform(largest, (len(images), *shape), generator)

    angle = uniform(math.radians(config.rotation_degrees))
    scale = 1 + uniform(config.scaling)
    rotation = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos()), dim=1).view(-1, 2, 2)
    # affine_grid's coordinates run from -1 to 1 across the side, so a share of the side is twice as much.
    motion = torch.cat((rotation * scale.view(-1, 1, 1), uniform(2 * config.shift, 2, 1)), dim=2)
    grid = nn.functional.affine_grid(motion, list(images.shape), align_corners=False)
    padding = {"darkest": "zeros", "edge": "border"}[config.surroundings]
    # grid_sample pads with 0, so 1 is added to the images to make 0 the darkest value.
    placed = nn.functional.grid_sample(images + 1, grid, padding_mode=padding, align_corners=False) - 1
    return mirrored_at_random(placed, generator) if config.mirror else placed


def lit(images: Images, largest: float, generator: torch.Generator) -> Images:
    """Change brightness, contrast, saturation and the balance of the colours of each image.

        y = brightness * balance_c (grey + saturation (x - grey)),   z = mean + contrast (y - mean)

    on pixels from 0 to 1. Brightness, contrast and saturation are within `largest` of 1, the balance within a
    third of it.

    Args:
        images: (B, C, H, W) in [-1, 1].
        largest: from 0 to 1.
        generator: the random generator, on the CPU.
    """
    batch, channels = images.shape[:2]
    brightness, contrast, saturation = 1 + _uniform(largest, (3, batch, 1, 1, 1), generator)
    balance = 1 + _uniform(largest / 3, (batch, channels, 1, 1), generator)
    pixels = (images + 1) / 2
    grey = pixels.mean(dim=1, keepdim=True)
    pixels = brightness * balance * (grey + saturation * (pixels - grey))
    mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
    changed: Images = (mean + contrast * (pixels - mean)).clamp(0, 1) * 2 - 1
    return changed


def blurred(images: Images, deviations: Tensor) -> Images:
    """Blur each image by a Gaussian of its own standard deviation in pixels, (B,); 0 leaves it as it is."""
    places = torch.arange(-BLUR_REACH, BLUR_REACH + 1)
    weights = torch.exp(-(places**2) / (2 * deviations.clamp(min=1e-3)[:, None] ** 2))
    weights = weights / weights.sum(dim=1, keepdim=True)
    batch, channels, _, width = images.shape
    kernels = weights.repeat_interleave(channels, dim=0)
    planes = nn.functional.pad(images, [BLUR_REACH] * 4, mode="replicate").view(
        1, batch * channels, -1, width + 2 * BLUR_REACH
    )
    across = nn.functional.conv2d(planes, kernels[:, None, None, :], groups=batch * channels)
    both = nn.functional.conv2d(across, kernels[:, None, :, None], groups=batch * channels)
    return both.view(images.shape)


def _uniform(largest: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return (2 * torch.rand(shape, generator=generator) - 1) * largest
