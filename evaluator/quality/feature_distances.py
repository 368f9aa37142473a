"""Distances between the distributions of two sets of images in a feature space.

The Frechet distance treats both distributions as normal, with means m and covariances S (Heusel et al. 2017,
arXiv:1706.08500):

    |m_r - m_g|^2 + tr S_r + tr S_g - 2 tr (S_r^(1/2) S_g S_r^(1/2))^(1/2)

The kernel distance is the unbiased squared maximum mean discrepancy with k(x, y) = (x . y / F + 1)^3 over F features
(Binkowski et al. 2018, arXiv:1801.01401). It has no bias for few images and may therefore be below 0:

    mean k(r, r') + mean k(g, g') - 2 mean k(r, g),    over pairs of distinct images

Intervals resample the generated images. A resample repeats some images, which biases its distance. The estimate of this
bias is the mean over resamples minus the value; it is subtracted from both ends.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics.pairwise import polynomial_kernel

from evaluator.judging.intervals import Interval

RESAMPLES = 100
ROWS = 1000
"""Images whose kernel values with all others are in memory at a time."""


def frechet_distance(real: np.ndarray, generated: np.ndarray) -> float:
    """Return the Frechet distance between two sets of features, (M, F) and (N, F), each of at least two images."""
    return FrechetDistance.to(real).of(generated)


@dataclass(frozen=True)
class FrechetDistance:
    """The Frechet distance to a set of real images; the square root of their covariance is computed once.

    Args:
        mean: mean of the real features, (F,).
        root: S^(1/2), the square root of their covariance, (F, F).
        trace: trace of S.
    """

    mean: np.ndarray
    root: np.ndarray
    trace: float

    @staticmethod
    def to(real: np.ndarray) -> "FrechetDistance":
        """Return the distance to the real images with these features, (M, F)."""
        covariance = np.atleast_2d(np.cov(real, rowvar=False))
        values, vectors = np.linalg.eigh(covariance)
        # Rounding can make the smallest eigenvalues slightly negative.
        root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
        return FrechetDistance(real.mean(axis=0), root, float(np.trace(covariance)))

    def of(self, generated: np.ndarray) -> float:
        """Return the distance from these features, (N, F), to the real ones; never negative."""
        covariance = np.atleast_2d(np.cov(generated, rowvar=False))
        shared = np.linalg.eigvalsh(self.root @ covariance @ self.root).clip(min=0)
        between = float(((self.mean - generated.mean(axis=0)) ** 2).sum())
        return max(0.0, between + self.trace + float(np.trace(covariance)) - 2 * float(np.sqrt(shared).sum()))


@dataclass(frozen=True)
class KernelDistance:
    """The kernel distance to a set of real images; the mean kernel between real images is computed once.

    Args:
        real: features of the real images, (M, F).
        among_real: mean k(r, r') over pairs of distinct real images.
    """

    real: np.ndarray
    among_real: float

    @staticmethod
    def to(real: np.ndarray) -> "KernelDistance":
        """Return the distance to the real images with these features, (M, F)."""
        return KernelDistance(real, float(_among_distinct(real, np.ones((1, len(real))))[0]))

    def of(self, generated: np.ndarray) -> float:
        """Return the distance from these features, (N, F), to the real ones."""
        return float(self.of_resamples(generated, np.ones((1, len(generated))))[0])

    def of_resamples(self, generated: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Return a distance for each row of `times`, (R, N), which counts each generated image that many times."""
        to_real = np.concatenate([_kernel(rows, self.real).mean(axis=1) for rows in _in_rows(generated)])
        return np.asarray(
            self.among_real + _among_distinct(generated, times) - 2 * (times @ to_real) / times.sum(axis=1)
        )


def kernel_distance(real: np.ndarray, generated: np.ndarray) -> float:
    """Return the kernel distance between two sets of features, (M, F) and (N, F), each of at least two images."""
    return KernelDistance.to(real).of(generated)


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(polynomial_kernel(a, b, degree=3, coef0=1))


def _in_rows(features: np.ndarray) -> list[np.ndarray]:
    return np.array_split(features, -(-len(features) // ROWS))


def _among_distinct(features: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the mean kernel over pairs of distinct images for each row of image weights `times`, (R, N)."""
    pairs, begin = np.zeros(len(times)), 0
    for rows in _in_rows(features):
        kernel = _kernel(rows, features)
        taken = times[:, begin : begin + len(rows)]
        itself = kernel[np.arange(len(rows)), begin + np.arange(len(rows))]
        pairs += ((times @ kernel.T) * taken).sum(axis=1) - taken**2 @ itself
        begin += len(rows)
    return np.asarray(pairs / (times.sum(axis=1) ** 2 - (times**2).sum(axis=1)))


def frechet_interval(real: FrechetDistance, generated: np.ndarray, seed: int) -> Interval:
    """Return the Frechet distance with its interval; the seed drives the resampling."""
    random = np.random.default_rng(seed)
    resampled = [real.of(generated[random.integers(len(generated), size=len(generated))]) for _ in range(RESAMPLES)]
    return _moved_back(real.of(generated), np.asarray(resampled))


def kernel_interval(real: KernelDistance, generated: np.ndarray, seed: int) -> Interval:
    """Return the kernel distance with its interval; the seed drives the resampling."""
    images = len(generated)
    times = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=RESAMPLES)
    distances = real.of_resamples(generated, np.concatenate((np.ones((1, images)), times)))
    return _moved_back(float(distances[0]), distances[1:])


def _moved_back(value: float, resampled: np.ndarray) -> Interval:
    low, high = np.percentile(resampled, (2.5, 97.5)) - (resampled.mean() - value)
    return Interval(value, float(low), float(high))
