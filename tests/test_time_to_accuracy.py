"""The benchmark of time to accuracy: what a contestant's seconds are, by a clock that only its steps move."""

import math
from collections.abc import Iterator

import pandas as pd
import pytest
import torch

from benchmarks.time_to_accuracy import DATASETS, Learner, learning_curve, seconds_to, until_reached


class Clock:
    """A clock in seconds, and a contestant whose accuracy is a hundredth of its steps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: float, sampling: float, steps: float = math.inf) -> None:
        self.now, self.steps, self.of_step, self.of_sampling, self.most = 0.0, 0, step, sampling, steps
        monkeypatch.setattr("time.perf_counter", lambda: self.now)

    def train(self) -> Iterator[None]:
        while self.steps < self.most:
            self.now += self.of_step
            self.steps += 1
            yield

    def sample(self) -> torch.Tensor:
        self.now += self.of_sampling
        return torch.tensor(self.steps / 100, dtype=torch.float64)

    def learner(self, probed: bool) -> Learner:
        return Learner("one", self.train(), self.sample, self.of_sampling if probed else 0.0)


def test_a_contestants_seconds_are_its_training_and_one_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = until_reached(Clock(monkeypatch, 0.25, 2).learner(probed=False), float, 0.4)
    table = pd.DataFrame(rows)
    assert table["training_seconds"].tolist() == [5, 7.5, 11.25]
    assert table["accuracy"].tolist() == [0.2, 0.3, 0.45]
    assert table["seconds"].tolist() == [7, 9.5, 13.25]
    assert table["reached"].tolist() == [0, 0, 1]
    summary = seconds_to(table, (0.3, 0.95))
    assert summary["seconds_to_0.3"].tolist() == [9.5]
    assert summary["seconds_to_0.95"].isna().all()


@pytest.mark.parametrize(("sampling", "first"), [(1.0, 5.0), (12.0, 12.0), (45.0, 15.0)])
def test_training_and_a_sampling_share_the_seconds(
    monkeypatch: pytest.MonkeyPatch, sampling: float, first: float
) -> None:
    rows = learning_curve(Clock(monkeypatch, 1.0, sampling).learner(probed=True), float, 2.0, seconds=60)
    assert rows[0]["training_seconds"] == first
    assert rows[-1]["seconds"] == 60
    assert not rows[-1]["reached"]


def test_a_sampler_that_is_too_slow_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, 1.0, 61.0)
    (row,) = learning_curve(clock.learner(probed=True), float, 0.5, seconds=60)
    assert clock.now == 0
    assert row["seconds"] == 61
    assert math.isnan(float(row["accuracy"]))
    assert not row["reached"]


def test_a_training_that_ends_below_the_accuracy_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="one: the accuracy is 0.300 at the end, below 0.5"):
        until_reached(Clock(monkeypatch, 1.0, 1.0, steps=30).learner(probed=False), float, 0.5)


def test_each_dataset_has_a_quick_preset_with_the_images_and_evaluator_of_the_other() -> None:
    for quick, preset, _ in DATASETS.values():
        assert (quick.data, quick.evaluator) == (preset.data, preset.evaluator)
