"""What the tutorials show of diffusion before and beside a trained sampler, as 8-bit images.

The corruption baseline mixes noise into an image, x = (1 - amount) x_0 + amount noise, and its networks predict x_0
without knowing the amount. Noising is that of a noise schedule, x_t = alpha_t x_0 + sigma_t noise.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lab.configuration.diffusion import CorruptionScheduleConfig, DDIMConfig, ScheduleConfig
from lab.configuration.networks import DenoiserConfig
from lab.data.labelled_images import to_float, to_pixels
from lab.diffusion.denoising import Denoising
from lab.diffusion.noise_source import NoiseSource, uniform
from lab.diffusion.objectives import AsNoisePredictor
from lab.diffusion.samplers import moments
from lab.diffusion.schedules import noise_schedule
from lab.networks.registry import build_denoiser
from lab.training.checkpoints import Checkpoint
from lab.types import Conditions, Images, PixelImages

Rows = dict[str, PixelImages]
"""Images by the name of their row."""


def corrupted(x_0: Images, amounts: Tensor, noise: Images) -> Images:
    """Return (1 - amount) x_0 + amount noise for each image's amount, shaped like x_0."""
    amounts = amounts.view(-1, 1, 1, 1)
    return (1 - amounts) * x_0 + amounts * noise


@torch.inference_mode()
def corruption_rows(pixels: PixelImages, checkpoints: Sequence[Checkpoint], device: torch.device) -> list[PixelImages]:
    """Return images, the same with amounts of noise from 0 to 1, and what each checkpoint predicts of x_0.

    Args:
        pixels: (N, C, H, W); the amounts are evenly spaced over them.
        checkpoints: of networks that predict x_0 and are not given the amount.
        device: the device to compute on.
    """
    x_0 = to_float(pixels)
    amounts = torch.linspace(0, 1, len(x_0))
    x = corrupted(x_0, amounts, uniform(tuple(x_0.shape), torch.Generator().manual_seed(0)))
    rows = [x_0, x, *(_predicted(checkpoint, x, device) for checkpoint in checkpoints)]
    return [to_pixels(row.cpu()) for row in rows]


@torch.inference_mode()
def mixed(
    checkpoint: Checkpoint, count: int, steps: int, device: torch.device, extra_amount: bool = False
) -> list[Images]:
    """Return x before the first step and after each: x <- (1 - f) x + f prediction, f = 1 / (steps - i), i = 0, 1, ...

    Args:
        checkpoint: of a network that predicts x_0 and is not given the amount.
        count: the number of images.
        steps: sampling steps, at least 2.
        device: the device to compute on.
        extra_amount: f = 1 / (steps - i + 1) instead, which does not reach the prediction.
    """
    # The network does not see the amount, so it may be sampled on a grid of exactly these steps.
    schedule = noise_schedule(CorruptionScheduleConfig(timesteps=steps, extra_amount=extra_amount))
    predictor = AsNoisePredictor(checkpoint.network(device), "x_0", schedule)
    noise = NoiseSource([(0, image) for image in range(count)], checkpoint.image_shape, schedule.noise)
    denoising = Denoising(predictor, schedule, _no_conditions(checkpoint, count, device), noise)
    return list(moments(DDIMConfig(sampling_steps=steps, clamp=False), denoising))


@torch.inference_mode()
def mixing_rows(checkpoint: Checkpoint, count: int, steps: int, device: torch.device) -> list[PixelImages]:
    """Return x and what the network predicts of it, in turn, for each step of `mixed`."""
    given = mixed(checkpoint, count, steps, device)[:-1]
    return [to_pixels(row.cpu()) for x in given for row in (x, _predicted(checkpoint, x, device))]


@torch.inference_mode()
def mixed_images(
    checkpoint: Checkpoint, count: int, steps: int, device: torch.device, extra_amount: bool = False
) -> PixelImages:
    """Return the finished images of `mixed`."""
    return to_pixels(mixed(checkpoint, count, steps, device, extra_amount)[-1].cpu())


@torch.inference_mode()
def noising_rows(pixels: PixelImages, schedule: ScheduleConfig, untrained: DenoiserConfig) -> tuple[Rows, list[int]]:
    """Return images, the same noised to evenly spaced timesteps, and what an untrained network predicts of those.

    The timesteps are floor(i (T - 1) / (N - 1)), i = 0 ... N - 1. The noised images are shown twice: clipped to
    [-1, 1], and scaled as a whole from their lowest to their highest value.

    Args:
        pixels: (N, C, H, W).
        schedule: the noise schedule.
        untrained: the settings of the network, which gets no condition.
    """
    x_0, of = to_float(pixels), noise_schedule(schedule)
    timesteps = torch.linspace(0, of.timesteps - 1, len(x_0), dtype=torch.float64).long()
    x_t = of.noised(x_0, timesteps, of.noise(tuple(x_0.shape), torch.Generator().manual_seed(0)))
    channels, height, width = pixels.shape[1:]
    network = build_denoiser(untrained, (channels, height, width), ("any",), schedule, seed=0).eval()
    predicted = network(x_t, timesteps, torch.zeros(len(x_t), 1))
    low, high = x_t.min(), x_t.max()
    rows = {
        "image": x_0,
        "noised, clipped": x_t,
        "noised, scaled": 2 * (x_t - low) / (high - low) - 1,
        "untrained network": predicted,
    }
    return {name: to_pixels(row) for name, row in rows.items()}, timesteps.tolist()


def _predicted(checkpoint: Checkpoint, x: Images, device: torch.device) -> Images:
    """Return what a network predicts that is given neither the amount nor a condition."""
    nothing = torch.zeros(len(x), dtype=torch.long), _no_conditions(checkpoint, len(x), device)
    predicted: Images = checkpoint.network(device)(x.to(device), *nothing)
    return predicted


def _no_conditions(checkpoint: Checkpoint, count: int, device: torch.device) -> Conditions:
    return torch.zeros(count, len(checkpoint.vocabulary), device=device)
