"""The best of n images: who is compared with whom, what is kept, and what the intervals cover."""

import numpy as np
import pytest
import torch

from evaluator.judging.best_of import accepted_row, best_of_rows, gain_interval, groups, log_likelihood
from evaluator.judging.cells import JudgedCell
from evaluator.judging.scoring import score
from lab.data.labels import ClassVocabulary, LabelSet

VOCABULARY = ClassVocabulary(("cube", "sphere", "cone", "ring", "tube"))
SETS: list[LabelSet] = [("cube",), ("sphere", "cone")]


def cell(logits: torch.Tensor, seeds: int) -> JudgedCell:
    settings = {"checkpoint": "epoch0001", "epoch": 1, "label_set": "test", "guidance_method": "plain"}
    settings |= {"guidance_weight": 1.0, "network_evaluations": 20, "seeds": seeds}
    pixels = torch.zeros(len(logits), 1, 2, 2, dtype=torch.uint8)
    return JudgedCell(settings, {}, SETS * seeds, lambda: pixels, logits)


def test_a_group_is_of_one_label_set_and_of_seeds_in_a_row() -> None:
    # Images are ordered by seed: image s * 2 + i is of seed s and label set i. Seed 4 fills no group.
    assert groups(seeds=5, label_sets=2, n=2).tolist() == [[0, 2], [1, 3], [4, 6], [5, 7]]
    assert groups(seeds=3, label_sets=2, n=1).tolist() == [[0], [1], [2], [3], [4], [5]]


def test_the_likelihood_is_that_of_all_classes() -> None:
    logits, conditions = (
        torch.randn(7, 3, generator=torch.Generator().manual_seed(0)),
        torch.eye(3)[[0, 1, 2, 0, 1, 2, 0]],
    )
    cross_entropy = torch.nn.functional.binary_cross_entropy(logits.sigmoid(), conditions, reduction="none").sum(dim=1)
    assert log_likelihood(logits, conditions) == pytest.approx(-cross_entropy.numpy(), abs=1e-5)


def test_the_likeliest_image_of_each_group_is_kept() -> None:
    conditions = VOCABULARY.conditions(SETS * 4)
    # The labels that the judge sees in the images of the first and the second label set, seed by seed.
    right = torch.tensor([[0, 2], [1, 0], [0, 1], [0, 2]]).flatten()
    judge = 1 - conditions
    for image, count in enumerate(right.tolist()):
        judge[image, conditions[image].nonzero().flatten()[:count]] = 3
    scored = score(judge, conditions)
    assert scored.correct_labels.tolist() == right.tolist()

    def logits(certainty: torch.Tensor) -> torch.Tensor:
        return (2 * conditions - 1) * certainty

    # The second classifier prefers seed 1 to seed 0, and seed 3 to seed 2.
    certainty = torch.tensor([1.0, 5.0, 1.0, 5.0]).repeat_interleave(2)[:, None]
    one, two = best_of_rows(cell(judge, seeds=4), scored, "second", log_likelihood(logits(certainty), conditions))
    assert (one["n"], one["images"], one["network_evaluations"], one["accuracy"], one["gain"]) == (1, 8, 20, 0.5, 0.0)
    # Kept are seeds 1 and 3: 1 and 0, 0 and 2 of 6 labels. All have 6 of 12.
    assert (two["n"], two["images"], two["network_evaluations"], two["accuracy"], two["gain"]) == (2, 4, 40, 0.5, 0.0)
    # Of seeds 1 and 2: 1 and 0, 0 and 1.
    certainty = torch.tensor([1.0, 5.0, 5.0, 1.0]).repeat_interleave(2)[:, None]
    likelihood = log_likelihood(logits(certainty), conditions)
    _, other = best_of_rows(cell(judge, seeds=4), scored, "second", likelihood, evaluations=8)
    assert other["network_evaluations"] == 2 * (20 + 8)
    assert (other["accuracy"], other["gain"]) == (
        pytest.approx(2 / 6, abs=1e-6),
        pytest.approx(2 / 6 - 1 / 2, abs=1e-6),
    )


@pytest.mark.parametrize("informed", [0.0, 1.0])
def test_the_gain_covers_the_true_one(informed: float) -> None:
    random, n, share = np.random.default_rng(0), 5, 0.7
    # A selector that knows gains 1 - 0.3^5 - 0.7; one that guesses gains nothing.
    truth, covered = informed * (1 - (1 - share) ** n - share), []
    for _ in range(1000):
        correct = (random.random((100, n)) < share).astype(float)
        kept = (informed * correct + 1e-3 * random.random(correct.shape)).argmax(axis=1)
        gained = correct[np.arange(100), kept] - correct.mean(axis=1)
        interval = gain_interval(gained, np.ones(100))
        covered.append(interval.low <= truth <= interval.high)
    # The standard error of 1,000 studies is 0.007.
    assert 0.93 <= np.mean(covered) <= 0.97


def test_accepted_images_are_counted_with_the_cost_of_the_others() -> None:
    conditions = VOCABULARY.conditions(SETS * 4)
    right = torch.tensor([[0, 2], [1, 0], [0, 1], [0, 2]]).flatten()
    judge = 1 - conditions
    for image, count in enumerate(right.tolist()):
        judge[image, conditions[image].nonzero().flatten()[:count]] = 3
    scored, accepted = score(judge, conditions), np.array([False, True, True, False, False, False, False, True])
    row = accepted_row(cell(judge, seeds=4), scored, "lift above 0", accepted, evaluations=8)
    assert (row["n"], row["images"], row["network_evaluations"]) == (None, 3, pytest.approx(28 * 8 / 3, abs=0.005))
    # 2 + 1 + 2 of 2 + 1 + 2 labels, and 6 of 12 of all.
    assert (row["accuracy"], row["gain"]) == (1.0, 0.5)
    none = accepted_row(cell(judge, seeds=4), scored, "lift above 0", accepted & False)
    assert (none["images"], none["network_evaluations"]) == (0, None)
    assert "accuracy" not in none


def test_the_gain_of_accepted_images_covers_the_true_one() -> None:
    random, conditions = np.random.default_rng(0), VOCABULARY.conditions([("cube",)] * 400)
    covered = []
    for _ in range(500):
        # 0.6 are right; the criterion accepts 0.9 of these and 0.3 of the others: 0.54 of 0.66 are right.
        right = random.random(400) < 0.6
        accepted = random.random(400) < np.where(right, 0.9, 0.3)
        judge = torch.tensor(np.where(right[:, None], [3, 0, 0, 0, 0], [0, 3, 0, 0, 0]), dtype=torch.float32)
        row = accepted_row(cell(judge, seeds=200), score(judge, conditions), "lift above 0", accepted)
        covered.append(row["gain_low"] <= 0.54 / 0.66 - 0.6 <= row["gain_high"])
    # The standard error of 500 studies is 0.01.
    assert 0.92 <= np.mean(covered) <= 0.98
