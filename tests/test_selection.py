"""Selection: paired comparisons, ranks and the luck of a maximum, against cases whose answer is known."""

import math

import numpy as np
import pytest

from evaluator.judging.selection import selection


def test_a_difference_by_hand() -> None:
    # Two labels an image; the second candidate misses one label on each of the first two images of four.
    correct, asked = np.array([[2, 1], [2, 1], [2, 2], [1, 1]]), np.full(4, 2)
    compared = selection(correct, asked, best=0)
    mean, residuals = 2 / 8, np.array([1, 1, 0, 0]) - 2 / 8 * 2
    half = 1.959963984540054 * math.sqrt(4 / 3 * (residuals**2).sum()) / 8
    assert compared.behind[1] == pytest.approx([mean, mean - half, mean + half])
    assert compared.behind[0] == pytest.approx([0, 0, 0])
    assert compared.tied.tolist() == [True, bool(mean - half <= 0)]


def test_pairs_tell_apart_what_separate_intervals_cannot() -> None:
    # Hard and easy images: both candidates are at about one half, and one is never behind the other.
    generator = np.random.default_rng(0)
    worse = generator.random(400) < 0.5
    better = worse | (generator.random(400) < 0.05)
    compared = selection(np.stack((better, worse), axis=1), np.ones(400), best=0)
    # Separate Wilson intervals are about 0.1 wide, more than the difference.
    assert 0 < compared.behind[1, 0] < 0.05
    assert not compared.tied[1]
    assert compared.rank.tolist() == [[1, 1], [2, 2]]


def test_equal_candidates_are_tied_and_share_every_rank() -> None:
    correct = np.tile(np.array([1, 0, 1, 1])[:, None], 3)
    compared = selection(correct, np.ones(4), best=0)
    assert compared.tied.all()
    assert (compared.rank == 1).all()


@pytest.mark.long
def test_the_interval_of_a_difference_covers_it() -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(1000):
        hardness = generator.random((200, 1))
        correct = generator.binomial(3, 0.9 - 0.4 * hardness + np.array([0.0, -0.08])) / 1.0
        _, low, high = selection_without_bootstrap(correct, np.full(200, 3.0))
        covered += low <= 0.08 <= high
    # Binomial: 1000 trials at 0.95 stay within 0.93 to 0.97 with probability above 0.99.
    assert 930 <= covered <= 970


def selection_without_bootstrap(correct: np.ndarray, asked: np.ndarray) -> tuple[float, float, float]:
    from evaluator.judging import selection as module

    before, module.RESAMPLES = module.RESAMPLES, 1
    try:
        value, low, high = selection(correct, asked, best=0).behind[1]
    finally:
        module.RESAMPLES = before
    return float(value), float(low), float(high)


@pytest.mark.long
def test_the_best_of_thirty_at_085_on_72_labels_is_093() -> None:
    # The coursework's case: 30 checkpoints, all truly at 0.85, one file with 72 labels.
    generator = np.random.default_rng(2)
    told, seen = [], []
    for _ in range(30):
        correct = generator.random((72, 30)) < 0.85
        told.append(selection(correct, np.ones(72), best=int(correct.mean(axis=0).argmax())).optimism)
        seen.append(correct.mean(axis=0).max() - 0.85)
    assert np.mean(seen) == pytest.approx(0.08, abs=0.01)
    assert np.mean(told) == pytest.approx(np.mean(seen), abs=0.01)


def test_candidates_that_are_right_together_have_no_luck_to_pick_from() -> None:
    correct = np.tile((np.random.default_rng(3).random(72) < 0.85)[:, None], 30)
    shared = selection(correct, np.ones(72), best=0).optimism
    apart = selection(np.random.default_rng(4).random((72, 30)) < 0.85, np.ones(72), best=0).optimism
    assert shared < 0.01 < 0.05 < apart


def test_the_same_seed_says_the_same() -> None:
    correct = np.random.default_rng(5).random((50, 4)) < 0.5
    first, again = (selection(correct, np.ones(50), best=1, seed=3) for _ in range(2))
    assert first.optimism == again.optimism
    assert (first.rank == again.rank).all()
