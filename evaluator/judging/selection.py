"""Selection: how much of a best row is merit, and how much is luck.

All candidates are scored on the same (label set, seed) pairs from the same noise, so they are compared pair by pair:

    difference = sum_i (correct_best,i - correct_i) / sum_i asked_i

with a 95 % interval from the variance of that ratio over images (Cochran 1977, equation 2.45). Ranks and the optimism
of picking a maximum come from a bootstrap over images (Efron & Tibshirani 1993) that draws the same images for every
candidate, so that what they share is kept.
"""

from dataclasses import dataclass

import numpy as np

from evaluator.judging.intervals import Z

RESAMPLES = 2000


@dataclass(frozen=True)
class Selection:
    """What can be said of candidates that were scored on the same images.

    Args:
        behind: (candidates, 3), accuracy behind the best one and the ends of its 95 % interval.
        rank: (candidates, 2), the ends of the rank's 95 % interval; 1 is best, equal accuracies share a rank.
        optimism: how much the best would be expected to stand above its true accuracy, were all that are tied with it
            equally good.
    """

    behind: np.ndarray
    rank: np.ndarray
    optimism: float

    @property
    def tied(self) -> np.ndarray:
        """Whether each candidate may be as good as the best: its interval reaches 0, (candidates,)."""
        return np.asarray(self.behind[:, 1] <= 0)


def selection(correct: np.ndarray, asked: np.ndarray, best: int, seed: int = 0) -> Selection:
    """Compare candidates with the best of them, pair by pair.

    Args:
        correct: (images, candidates), correct labels.
        asked: (images,), labels asked of each image, each above 0.
        best: the column that was picked.
        seed: of the bootstrap.
    """
    correct, asked = np.asarray(correct, dtype=np.float64), np.asarray(asked, dtype=np.float64)
    images, total = len(asked), asked.sum()
    ahead = correct[:, [best]] - correct
    behind = ahead.sum(axis=0) / total
    residual = ahead - behind * asked[:, None]
    deviation = np.sqrt(images / max(images - 1, 1) * (residual**2).sum(axis=0)) / total
    intervals = np.stack((behind, behind - Z * deviation, behind + Z * deviation), axis=1)

    generator = np.random.default_rng(seed)
    draws = generator.multinomial(images, np.full(images, 1 / images), size=RESAMPLES).astype(np.float64)
    resampled = (draws @ correct) / (draws @ asked)[:, None]
    # How many are better; equal up to rounding is equal.
    ranks = 1 + np.stack([np.searchsorted(np.sort(-one), -one - 1e-12) for one in resampled])
    ends = np.stack((np.quantile(ranks, 0.025, axis=0), np.quantile(ranks, 0.975, axis=0)), axis=1)
    # A row that is surely worse cannot be picked by luck, however uncertain its own accuracy is.
    tied = intervals[:, 1] <= 0
    optimism = float((resampled - correct.sum(axis=0) / total)[:, tied].max(axis=1).mean())
    return Selection(behind=intervals, rank=np.round(ends).astype(int), optimism=max(optimism, 0.0))
