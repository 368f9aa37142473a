"""The shapes that travel between the rooms, and the two calls everything is built around.

Shapes are jaxtyping annotations: documentation in normal use, checked while pytest runs.
"""

from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

Images = Float[Tensor, "batch channel height width"]
"""Images, clean or noisy. Clean images are in [-1, 1]."""

PixelImages = UInt8[Tensor, "batch channel height width"]
"""Images as a PNG file stores them: 8 bits a channel, 0 to 255."""

PixelImage = UInt8[Tensor, "channel height width"]
"""One such image."""

PixelMoments = UInt8[Tensor, "batch moment channel height width"]
"""Such images at successive moments of the sampler, each image's finished one last."""

Conditions = Float[Tensor, "batch class"]
"""A multi-hot row for each image: 1 where the class is asked for. A row of zeros is the null condition."""

Timesteps = Int64[Tensor, "batch"]
"""Timesteps 0 to T - 1, from the least noisy to the noisiest.

Samplers leave them on the CPU, where guidance may look at them without waiting for a GPU."""

SampleWeights = Float[Tensor, "batch"]
"""A weight for each image's loss, 0 or more."""

ImageNumbers = Int64[Tensor, "batch"]
"""A whole number for each image: the index of its class, or the number of its group."""

ClassLogits = Float[Tensor, "batch class"]
"""The evaluator's opinion of each class, before the sigmoid. Larger means more likely to be in the image."""

ClassChoices = Bool[Tensor, "batch class"]
"""A row for each image: True at the classes asked for, or at the classes the evaluator saw."""


@runtime_checkable
class NoisePredictor(Protocol):
    """Anything that predicts the noise in `x_t`: a denoiser, its EMA copy, a guidance around either.

    For x_t = alpha_t x_0 + sigma_t noise it returns an estimate of `noise`, shaped like x_t.
    """

    def __call__(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Return the noise estimated in x_t, shaped like it."""
        ...
