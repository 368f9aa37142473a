"""95 % intervals of an accuracy, by resampling images.

Labels of one image are right and wrong together, so the image is what is drawn again, never the label (the cluster
bootstrap; Efron & Tibshirani 1993, chapter 8).
"""

from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95
Z = 1.959963984540054
"""The 97.5 % point of the standard normal distribution."""


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its 95 % interval, each in [0, 1]."""

    value: float
    low: float
    high: float

    def overlaps(self, other: "Interval") -> bool:
        """Tell whether the two intervals share a point."""
        return self.low <= other.high and other.low <= self.high


def ratio_interval(correct: np.ndarray, asked: np.ndarray, seed: int = 0) -> Interval:
    """Return sum(correct) / sum(asked) with the percentile bootstrap's interval over images.

    Where every image is right, or every image wrong, resampling can only say that again; the Wilson interval of as
    many images is returned there, so that 500 right of 500 reads 0.992 to 1 and not 1 to 1.

    Args:
        correct: correct labels of each image, (N,).
        asked: labels asked of each image, (N,), each at least 1.
        seed: of the resampling; the same seed resamples the same images for every cell of that size.
    """
    correct, asked = np.asarray(correct, dtype=np.float64), np.asarray(asked, dtype=np.float64)
    images = len(correct)
    value = float(correct.sum() / asked.sum())
    if value in (0.0, 1.0):
        low, high = wilson_interval(value, images)
        return Interval(value, low, high)
    # Images of the same (correct, asked) are alike, so how often each kind is drawn is all that a resample is.
    kinds, counts = np.unique(np.stack((correct, asked)), axis=1, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(images, counts / images, size=RESAMPLES)
    ratios = (drawn @ kinds[0]) / (drawn @ kinds[1])
    low, high = np.quantile(ratios, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Return the ends of Wilson's 95 % score interval of a share of `count` independent trials (Wilson 1927)."""
    centre = share + Z**2 / (2 * count)
    half = Z * np.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    scale = 1 + Z**2 / count
    return max(0.0, float((centre - half) / scale)), min(1.0, float((centre + half) / scale))
