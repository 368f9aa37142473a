"""Types that the folders share, and the protocol of a noise predictor.

Shapes are jaxtyping annotations. They are checked under pytest and ignored otherwise.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

Images = Float[Tensor, "batch channel height width"]
"""Images, clean or noisy. Clean images are in [-1, 1]."""

PixelImages = UInt8[Tensor, "batch channel height width"]
"""Images as a PNG file stores them: 8 bits per channel, 0 to 255."""

PixelImage = UInt8[Tensor, "channel height width"]
"""One image of 8 bits per channel."""

PixelMoments = UInt8[Tensor, "batch moment channel height width"]
"""8-bit images at successive moments of the sampler; the finished image is last."""

Conditions = Float[Tensor, "batch class"]
"""A multi-hot row for each image: 1 at the classes of its label set. A row of zeros is the null condition."""

WeightedConditions = Float[Tensor, "batch class_and_weight"]
"""Conditions with w as one more column, the last, for networks that take it as an input."""

Timesteps = Int64[Tensor, "batch"]
"""Timesteps 0 to T - 1, from the least noisy to the noisiest.

Samplers keep them on the CPU, so that guidance can read them without waiting for a GPU."""

SampleWeights = Float[Tensor, "batch"]
"""The weight of each image's loss, 0 or more."""

ImageNumbers = Int64[Tensor, "batch"]
"""An integer for each image: the index of its class, or the number of its group."""

ClassNames = tuple[str, ...]
"""The names of the K classes, in the order of a condition's columns."""

ClassLogits = Float[Tensor, "batch class"]
"""The evaluator's output for each class, before the sigmoid. A larger logit means that the class is more likely."""

ClassChoices = Bool[Tensor, "batch class"]
"""A row for each image: True at the classes of its label set, or at the classes that the evaluator predicts."""


ImageClassifier = Callable[[Images], ClassLogits]
"""A function from images in [-1, 1] to one logit per class, each image by itself, through which gradients pass."""


@runtime_checkable
class NoisePredictor(Protocol):
    """A function that predicts the noise in `x_t`: a denoiser, its EMA copy, or guidance around either.

    For x_t = alpha_t x_0 + sigma_t noise, it returns an estimate of `noise`, shaped like x_t.
    """

    def __call__(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Return the estimated noise, shaped like x_t."""
        ...
