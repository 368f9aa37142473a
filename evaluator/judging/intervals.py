"""95 % intervals of an accuracy, from resampled images.

The labels of one image are not independent, so images are resampled, never labels. The jackknife over images gives the
variance of the ratio. The variance gives the effective number of independent labels, and the result is Wilson's score
interval for this number:

    n_effective = p (1 - p) / variance,    variance = (n - 1) / n sum_i (p_without_i - mean)^2

Sources: Efron & Tibshirani 1993, chapter 11; Wilson 1927; Korn & Graubard 1998 for the effective sample size. Bootstrap
percentiles work for intermediate accuracies but fail near 1, where the digits are: for 500 correct answers out of 500
they return 1 to 1, and for 499 a higher lower end than Wilson's interval for 500.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

Z = 1.959963984540054
"""The 97.5 % point of the standard normal distribution."""


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its 95 % interval; for a share, all three are in [0, 1]."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def interval_columns(name: str, interval: Interval) -> dict[str, float]:
    """Return an interval as the columns NAME, NAME_low and NAME_high, rounded to 6 decimals."""
    return {
        name: round(interval.value, 6),
        f"{name}_low": round(interval.low, 6),
        f"{name}_high": round(interval.high, 6),
    }


def ratio_interval(correct: np.ndarray, asked: np.ndarray) -> Interval:
    """Return sum(correct) / sum(asked) with its 95 % interval over images.

    If all labels are correct, or none is, the correlation of labels within an image is unknown. The effective number of
    labels is then the number of images.

    Args:
        correct: number of correct labels of each image, (N,), in [0, asked].
        asked: number of requested labels of each image, (N,), each above 0.
    """
    correct, asked = np.asarray(correct, dtype=np.float64), np.asarray(asked, dtype=np.float64)
    images, right, total = len(correct), correct.sum(), asked.sum()
    value = float(right / total)
    effective = float(images)
    if 0 < value < 1 and images > 1:
        without = (right - correct) / (total - asked)
        variance = float((images - 1) / images * ((without - without.mean()) ** 2).sum())
        # At most the number of labels: the variance is 0 if, for example, half of every image's labels are correct.
        effective = min(total, value * (1 - value) / variance) if variance > 0 else total
    return Interval(value, *wilson_interval(value, effective))


def crossed_interval(correct: np.ndarray, asked: np.ndarray) -> Interval:
    """Return the accuracy of S trainings on the same N label sets and noises, with its 95 % interval over both.

    The interval is for the mean accuracy of all trainings of the recipe on all noises. With r_si the residual of the
    ratio, the mean squares of a table of trainings by images give the variance of its mean:

        r_si = (correct_si - p asked_i) / mean(asked),    variance = (MS_trainings + MS_images - MS_rest) / (S N)

    Wilson's interval uses the effective number of labels as above, with Student's t in place of the normal point, of
    Satterthwaite's degrees of freedom. Resampling trainings instead lacks Student's factor, and shrinks the variance
    between S trainings by (S - 1) / S: its intervals are too narrow for few trainings. LOG.md has the coverage of both.

    Sources: Cornfield & Tukey 1956 (mean squares of a crossed table); Satterthwaite 1946; Cochran 1977 for the ratio.

    Args:
        correct: number of correct labels of each training and image, (S, N), in [0, asked]; S and N are at least 2.
        asked: number of requested labels of each image, (N,), each above 0.
    """
    correct, asked = np.asarray(correct, dtype=np.float64), np.asarray(asked, dtype=np.float64)
    trainings, images = correct.shape
    value = float(correct.sum() / (trainings * asked.sum()))
    residual = (correct - value * asked) / asked.mean()
    of_training, of_image = residual.mean(axis=1), residual.mean(axis=0)
    rest = residual - of_training[:, None] - of_image
    degrees = np.array([trainings - 1, images - 1, (trainings - 1) * (images - 1)])
    squares = np.array([images * (of_training**2).sum(), trainings * (of_image**2).sum(), (rest**2).sum()]) / degrees
    signs = np.array([1, 1, -1])
    # The difference may be small or negative by chance; the images alone vary by their mean square.
    mean_square = max(float(signs @ squares), float(squares[1]))
    if not (0 < value < 1 and mean_square > 0):
        return Interval(value, *wilson_interval(value, float(images)))
    effective = min(trainings * asked.sum(), value * (1 - value) / (mean_square / (trainings * images)))
    freedom = mean_square**2 / float((squares**2 / degrees).sum())
    return Interval(value, *wilson_interval(value, effective, float(stdtrit(freedom, 0.975))))


def shuffled_interval(correct: np.ndarray, asked: np.ndarray, weights: np.ndarray) -> Interval:
    """Return the accuracy of N images against label sets drawn at random, with the 95 % interval of a single draw.

    With c_ij the number of correct labels of image i against set j, a_j the number of labels in set j, w_j its weight,
    and E the mean over all pairs weighted by w_j:

        p = E c / E a,    variance = E (c - p a)^2 / (N (E a)^2)

    (the variance of a ratio, Cochran 1977, equation 2.39). Wilson's interval uses the effective size as above.

    Args:
        correct: c, (N, M), in [0, asked].
        asked: a, (M,), each above 0.
        weights: w, (M,), the number of times each set occurs.
    """
    images, share = len(correct), weights / weights.sum()
    labels = float(asked @ share)
    value = float(correct.mean(axis=0) @ share / labels)
    variance = float(((correct - value * asked) ** 2).mean(axis=0) @ share / (images * labels**2))
    effective = min(images * labels, value * (1 - value) / variance) if variance > 0 else float(images)
    return Interval(value, *wilson_interval(value, effective))


def wilson_interval(share: float, count: float, point: float = Z) -> tuple[float, float]:
    """Return the ends of Wilson's 95 % score interval for a share of `count` independent trials (Wilson 1927).

    `point` is the 97.5 % point of the distribution of the standardised share.
    """
    centre = share + point**2 / (2 * count)
    half = point * np.sqrt(share * (1 - share) / count + point**2 / (4 * count**2))
    scale = 1 + point**2 / count
    return max(0.0, float((centre - half) / scale)), min(1.0, float((centre + half) / scale))


def bootstrap_mean(values: np.ndarray, seed: int, resamples: int = 1000) -> Interval:
    """Return the mean of any values with its 95 % interval: percentiles over resampled images (Efron 1979).

    Args:
        values: the value of each image, (N,), unbounded. For shares use `ratio_interval`, which handles shares of 1.
        seed: seed of the resampling.
        resamples: number of resamples.
    """
    values = np.asarray(values, dtype=np.float64)
    times = np.random.default_rng(seed).multinomial(len(values), np.full(len(values), 1 / len(values)), size=resamples)
    low, high = np.percentile(times @ values / len(values), (2.5, 97.5))
    return Interval(float(values.mean()), float(low), float(high))
