"""95 % intervals of an accuracy, by resampling images.

Labels of one image are right and wrong together, so the image is what is left out and drawn again, never the label. The
jackknife over images gives the variance of the ratio; the variance gives the number of independent labels that would
know as much, and Wilson's score interval of that many is returned:

    n_effective = p (1 - p) / variance,    variance = (n - 1) / n sum_i (p_without_i - mean)^2

(Efron & Tibshirani 1993, chapter 11; Wilson 1927; the effective sample size as in Korn & Graubard 1998.) Percentiles of
a bootstrap would do in the middle, but not where digits end up: of 500 right answers they say 1 to 1, and of 499 they
give a higher lower end than Wilson gives 500.
"""

from dataclasses import dataclass

import numpy as np

Z = 1.959963984540054
"""The 97.5 % point of the standard normal distribution."""


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its 95 % interval; of a share, each is in [0, 1]."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def interval_columns(name: str, interval: Interval) -> dict[str, float]:
    """Return NAME, NAME_low and NAME_high of an interval, rounded to 6 decimals."""
    return {
        name: round(interval.value, 6),
        f"{name}_low": round(interval.low, 6),
        f"{name}_high": round(interval.high, 6),
    }


def ratio_interval(correct: np.ndarray, asked: np.ndarray) -> Interval:
    """Return sum(correct) / sum(asked) with its 95 % interval over images.

    Where all is right, or all is wrong, nothing is known of how the labels of an image hang together, and as many
    independent labels as there are images are assumed.

    Args:
        correct: correct labels of each image, (N,), in [0, asked].
        asked: labels asked of each image, (N,), each above 0.
    """
    correct, asked = np.asarray(correct, dtype=np.float64), np.asarray(asked, dtype=np.float64)
    images, right, total = len(correct), correct.sum(), asked.sum()
    value = float(right / total)
    effective = float(images)
    if 0 < value < 1 and images > 1:
        without = (right - correct) / (total - asked)
        variance = float((images - 1) / images * ((without - without.mean()) ** 2).sum())
        # No more than the labels there are: where each image has its half right, the variance is 0.
        effective = min(total, value * (1 - value) / variance) if variance > 0 else total
    return Interval(value, *wilson_interval(value, effective))


def shuffled_interval(correct: np.ndarray, asked: np.ndarray, weights: np.ndarray) -> Interval:
    """Return the accuracy of N images against label sets drawn at random, with the 95 % interval of one such draw.

    With c_ij the correct labels of image i against set j of a_j labels, w_j that set's weight, and E the mean over all
    pairs weighted by w_j:

        p = E c / E a,    variance = E (c - p a)^2 / (N (E a)^2)

    (the variance of a ratio, Cochran 1977, equation 2.39); Wilson's interval at the effective size follows as above.

    Args:
        correct: c, (N, M), in [0, asked].
        asked: a, (M,), each above 0.
        weights: w, (M,), how often each set occurs.
    """
    images, share = len(correct), weights / weights.sum()
    labels = float(asked @ share)
    value = float(correct.mean(axis=0) @ share / labels)
    variance = float(((correct - value * asked) ** 2).mean(axis=0) @ share / (images * labels**2))
    effective = min(images * labels, value * (1 - value) / variance) if variance > 0 else float(images)
    return Interval(value, *wilson_interval(value, effective))


def wilson_interval(share: float, count: float) -> tuple[float, float]:
    """Return the ends of Wilson's 95 % score interval of a share of `count` independent trials (Wilson 1927)."""
    centre = share + Z**2 / (2 * count)
    half = Z * np.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    scale = 1 + Z**2 / count
    return max(0.0, float((centre - half) / scale)), min(1.0, float((centre + half) / scale))


def bootstrap_mean(values: np.ndarray, seed: int, resamples: int = 1000) -> Interval:
    """Return the mean of any values with its 95 % interval, percentiles over resampled images (Efron 1979).

    Args:
        values: of each image, (N,), of any size. For shares, which may all be right, take `ratio_interval`.
        seed: of the resampling.
        resamples: how many.
    """
    values = np.asarray(values, dtype=np.float64)
    times = np.random.default_rng(seed).multinomial(len(values), np.full(len(values), 1 / len(values)), size=resamples)
    low, high = np.percentile(times @ values / len(values), (2.5, 97.5))
    return Interval(float(values.mean()), float(low), float(high))
