"""Lift: how much better a denoiser predicts the noise in an image with its label set than without.

    lift(x | c) = mean over t and noise of |noise - eps(x_t, null)|^2 - |noise - eps(x_t, c)|^2

It estimates log p(x | c) / p(x), up to the weights of the timesteps, without another network. CompLift accepts an image
if it is above 0 (Yu & Gao 2025, arXiv:2505.13740). There, each part of a prompt has a lift of its own, and all must be
above 0; here, c is the whole label set, which the denoiser was trained on.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lab.data.labelled_images import to_float
from lab.diffusion.noise_source import NoiseSource
from lab.diffusion.schedules import NoiseSchedule
from lab.guidance.classifier_free import null_conditions
from lab.types import Conditions, NoisePredictor, PixelImages

OF_LIFT = 1
"""Sets the seeds of this noise apart from those that the images were sampled from."""
EVALUATIONS = 2
"""Network evaluations of a draw."""
BATCH = 128
"""Images that are measured together."""
Lifts = Float[Tensor, "batch"]
"""The lift of each image."""


@torch.inference_mode()
def lifts(
    predictor: NoisePredictor,
    schedule: NoiseSchedule,
    pixels: PixelImages,
    conditions: Conditions,
    noise_seeds: Sequence[tuple[int, ...]],
    draws: int,
) -> Lifts:
    """Return the lift of each image, in units of squared noise a pixel.

    Args:
        predictor: the denoiser as a noise predictor, without guidance.
        schedule: its noise schedule.
        pixels: 8-bit images.
        conditions: their conditions, on the predictor's device.
        noise_seeds: integers for each image, as `NoiseSource` takes them; those that it was sampled from.
        draws: pairs of timestep and noise; the timesteps are evenly spaced.
    """
    shape = (pixels.shape[1], pixels.shape[2], pixels.shape[3])
    total = torch.zeros(len(pixels), dtype=torch.float64)
    for part in (slice(begin, begin + BATCH) for begin in range(0, len(pixels), BATCH)):
        images, given = to_float(pixels[part]), conditions[part]
        noises = NoiseSource([(OF_LIFT, *seeds) for seeds in noise_seeds[part]], shape, schedule.noise)
        for draw in range(draws):
            t = torch.full((len(images),), int((draw + 0.5) * schedule.timesteps / draws))
            noise = noises.draw()
            alpha, sigma = schedule.amounts(t, images)
            x_t = (alpha * images + sigma * noise).to(given.device)
            without, with_condition = (
                (predictor(x_t, t, each).cpu() - noise).double().square().mean(dim=(1, 2, 3))
                for each in (null_conditions(given), given)
            )
            total[part] += without - with_condition
    return total / draws
