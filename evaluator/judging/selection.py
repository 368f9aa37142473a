"""Selection: how much of the best row's accuracy is due to chance.

All candidates are scored on the same (label set, seed) pairs with the same noise, so they are compared pair by pair:

    difference = sum_i (correct_best,i - correct_i) / sum_i asked_i

with a 95 % interval from the variance of this ratio over images (Cochran 1977, equation 2.45). The intervals of ranks
and the optimism of a maximum come from a bootstrap over images (Efron & Tibshirani 1993). It draws the same images for
every candidate, which preserves the correlation between candidates.
"""

from dataclasses import dataclass

import numpy as np

from evaluator.judging.intervals import Z

RESAMPLES = 2000


@dataclass(frozen=True)
class Selection:
    """The comparison of candidates that were scored on the same images.

    Args:
        behind: (candidates, 3), the distance in accuracy to the best candidate and the ends of its 95 % interval.
        rank: (candidates, 2), the ends of the rank's 95 % interval; 1 is best, and equal accuracies share a rank.
        optimism: the expected excess of the best candidate's accuracy over its true accuracy, if all candidates tied
            with it are equally good.
    """

    behind: np.ndarray
    rank: np.ndarray
    optimism: float

    @property
    def tied(self) -> np.ndarray:
        """True for each candidate that may be as good as the best, because its interval reaches 0; (candidates,)."""
        return np.asarray(self.behind[:, 1] <= 0)


def behind_best(correct: np.ndarray, asked: np.ndarray, best: int) -> np.ndarray:
    """Return the distance of each candidate to the best one with its interval, as `Selection.behind` has it.

    Args:
        correct: (images, candidates), number of correct labels.
        asked: (images,), number of requested labels, each above 0.
        best: column of the best candidate.
    """
    correct, asked = np.asarray(correct, dtype=np.float64), np.asarray(asked, dtype=np.float64)
    images, total = len(asked), asked.sum()
    ahead = correct[:, [best]] - correct
    behind = ahead.sum(axis=0) / total
    residual = ahead - behind * asked[:, None]
    deviation = np.sqrt(images / max(images - 1, 1) * (residual**2).sum(axis=0)) / total
    return np.stack((behind, behind - Z * deviation, behind + Z * deviation), axis=1)


def selection(correct: np.ndarray, asked: np.ndarray, best: int, seed: int = 0) -> Selection:
    """Compare all candidates with the best one, pair by pair.

    Args:
        correct: (images, candidates), number of correct labels.
        asked: (images,), number of requested labels, each above 0.
        best: column of the best candidate.
        seed: seed of the bootstrap.
    """
    correct, asked = np.asarray(correct, dtype=np.float64), np.asarray(asked, dtype=np.float64)
    images, total = len(asked), asked.sum()
    intervals = behind_best(correct, asked, best)
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(images, np.full(images, 1 / images), size=RESAMPLES).astype(np.float64)
    resampled = (draws @ correct) / (draws @ asked)[:, None]
    # The rank counts the candidates that are better by more than rounding.
    ranks = 1 + np.stack([np.searchsorted(np.sort(-one), -one - 1e-12) for one in resampled])
    ends = np.stack((np.quantile(ranks, 0.025, axis=0), np.quantile(ranks, 0.975, axis=0)), axis=1)
    # Chance cannot select a row that is clearly worse, even if its own accuracy is uncertain.
    tied = intervals[:, 1] <= 0
    optimism = float((resampled - correct.sum(axis=0) / total)[:, tied].max(axis=1).mean())
    return Selection(behind=intervals, rank=np.round(ends).astype(int), optimism=max(optimism, 0.0))
