"""Intervals: their known answers, and how often they cover the truth."""

import numpy as np
import pytest

from evaluator.judging.intervals import Interval, bootstrap_mean, ratio_interval, shuffled_interval, wilson_interval


def test_the_value_is_labels_over_labels_and_not_a_mean_of_images() -> None:
    assert ratio_interval(np.array([1, 0]), np.array([1, 3])).value == 0.25


def test_one_label_an_image_agrees_with_the_binomial() -> None:
    correct = np.repeat([1, 0], [800, 200])
    interval = ratio_interval(correct, np.ones(1000))
    half = 1.96 * np.sqrt(0.8 * 0.2 / 1000)
    assert interval.low == pytest.approx(0.8 - half, abs=0.003)
    assert interval.high == pytest.approx(0.8 + half, abs=0.003)


def test_labels_right_and_wrong_together_widen_the_interval() -> None:
    # The same 600 of 900 labels: in 300 images of three labels each, all right or all wrong; or one label an image.
    together = ratio_interval(np.repeat([3, 0], [200, 100]), np.full(300, 3))
    apart = ratio_interval(np.repeat([1, 0], [600, 300]), np.ones(900))
    assert together.value == apart.value
    assert (together.high - together.low) / (apart.high - apart.low) == pytest.approx(np.sqrt(3), rel=0.1)


@pytest.mark.parametrize(("right", "low", "high"), [(500, 0.9924, 1.0), (0, 0.0, 0.0076)])
def test_all_right_or_all_wrong_is_not_certainty(right: int, low: float, high: float) -> None:
    # Wilson's interval at the ends is n / (n + z^2) and z^2 / (n + z^2): here 500 / 503.84 and 3.84 / 503.84.
    interval = ratio_interval(np.repeat([1, 0], [right, 500 - right]), np.ones(500))
    assert interval.low == pytest.approx(low, abs=1e-4)
    assert interval.high == pytest.approx(high, abs=1e-4)


def test_more_right_answers_never_lower_an_end() -> None:
    intervals = [ratio_interval(np.repeat([1, 0], [right, 100 - right]), np.ones(100)) for right in range(101)]
    for fewer, more in zip(intervals, intervals[1:], strict=False):
        assert fewer.low < more.low
        assert fewer.high < more.high


def test_one_label_an_image_is_wilsons_interval() -> None:
    # The jackknife's variance of a share is p (1 - p) / (n - 1).
    interval = ratio_interval(np.repeat([1, 0], [70, 30]), np.ones(100))
    assert (interval.low, interval.high) == pytest.approx(wilson_interval(0.7, 99))


def test_an_image_that_is_always_half_right_is_no_certainty() -> None:
    interval = ratio_interval(np.ones(50), np.full(50, 2))
    assert (interval.low, interval.high) == pytest.approx(wilson_interval(0.5, 100))


def test_wilson_on_a_textbook_case() -> None:
    # Newcombe 1998, table I: 81 of 263.
    low, high = wilson_interval(81 / 263, 263)
    assert low == pytest.approx(0.2553, abs=5e-5)
    assert high == pytest.approx(0.3662, abs=5e-5)


@pytest.mark.long
@pytest.mark.parametrize("truth", [0.5, 0.8, 0.97])
@pytest.mark.parametrize("correlated", [False, True])
def test_the_interval_covers_the_truth_as_often_as_it_says(correlated: bool, truth: float) -> None:
    generator = np.random.default_rng(0)
    images, labels, trials = 400, 3, 4000
    covered = 0
    for _ in range(trials):
        draws = generator.random((images, 1 if correlated else labels)) < truth
        correct = draws.sum(axis=1) * (labels if correlated else 1)
        interval = ratio_interval(correct, np.full(images, labels))
        covered += interval.low <= truth <= interval.high
    assert 0.93 <= covered / trials <= 0.97


def test_a_bootstrapped_mean_covers_the_truth() -> None:
    random, covered = np.random.default_rng(0), 0
    for trial in range(1000):
        interval = bootstrap_mean(random.exponential(2.0, size=200), seed=trial)
        covered += interval.low <= 2.0 <= interval.high
    # 95 % within four standard errors of 1,000 trials, less what percentiles of so skewed values are known to lose.
    assert 0.91 <= covered / 1000 <= 0.98


def test_a_bootstrapped_mean_of_equal_values_is_certain() -> None:
    assert bootstrap_mean(np.full(10, 3.0), seed=0) == Interval(3.0, 3.0, 3.0)


def test_one_label_shuffled_is_the_interval_of_as_many_images() -> None:
    # Every image is right against one of ten sets: the mean over all shuffles is fixed, one shuffle is a binomial.
    interval = shuffled_interval(np.eye(10)[np.arange(500) % 10], np.ones(10), np.full(10, 50))
    assert interval.value == pytest.approx(0.1)
    assert (interval.low, interval.high) == pytest.approx(wilson_interval(0.1, 500))


def test_a_shuffle_lands_in_its_interval_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    asked, weights = np.array([1, 2, 3]), np.array([5, 3, 2])
    correct = np.minimum(random.integers(0, 4, size=(200, 3)), asked)
    interval, covered = shuffled_interval(correct, asked, weights), 0
    for _ in range(2000):
        drawn = random.choice(3, size=200, p=weights / weights.sum())
        images = random.integers(200, size=200)
        covered += interval.low <= correct[images, drawn].sum() / asked[drawn].sum() <= interval.high
    assert 0.93 <= covered / 2000 <= 0.97


def test_all_shuffles_wrong_is_no_certainty() -> None:
    assert shuffled_interval(np.zeros((50, 2)), np.ones(2), np.ones(2)).high == pytest.approx(wilson_interval(0, 50)[1])
