"""The coursework's top-k rule, on cases made by hand and as properties."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evaluator.judging.baselines import shuffled_row
from evaluator.judging.scoring import chance, score, seen_classes

LOGITS = torch.tensor([[0.9, 0.1, 0.8, -5.0], [0.1, 0.2, 0.3, 0.4], [-1.0, -2.0, -3.0, -4.0]])


def test_of_an_image_asked_for_k_labels_the_k_highest_count() -> None:
    asked = torch.tensor([[1.0, 0, 1, 0], [0, 0, 1, 1], [0, 1, 0, 0]])
    scored = score(LOGITS, asked)
    assert scored.seen.tolist() == [[True, False, True, False], [False, False, True, True], [True, False, False, False]]
    assert scored.correct_labels.tolist() == [2, 2, 0]
    assert scored.accuracy().value == pytest.approx(4 / 5)
    assert scored.exact_match().value == pytest.approx(2 / 3)


def test_a_half_right_image_is_no_exact_match() -> None:
    scored = score(LOGITS[:1], torch.tensor([[1.0, 1, 0, 0]]))
    assert scored.accuracy().value == 0.5
    assert scored.exact_match().value == 0


def test_the_mean_over_images_weighs_images_and_not_labels() -> None:
    # 1 of 1 label, 1 of 3 labels: 2 of 4 labels, but a mean of 1 and 1/3 over the images.
    scored = score(torch.tensor([[2.0, 1, 0, -1], [2, 1, 0, -1]]), torch.tensor([[1.0, 0, 0, 0], [0, 1, 1, 1]]))
    assert scored.correct_labels.tolist() == [1, 2]
    assert scored.accuracy().value == pytest.approx(3 / 4)
    assert scored.image_accuracy().value == pytest.approx((1 + 2 / 3) / 2)


def test_objects_nobody_asked_for_are_seen_beside_the_rule() -> None:
    # Everything is in both pictures: the rule calls them right, the unasked rate does not.
    scored = score(torch.tensor([[9.0, 8, 7, 6], [9, 8, 7, 6]]), torch.tensor([[1.0, 1, 0, 0], [1, 1, 1, 1]]))
    assert scored.accuracy().value == 1
    assert scored.has_unasked.tolist() == [True, False]
    assert scored.unasked_rate().value == 0.5


def test_of_equal_logits_the_lower_index_counts() -> None:
    assert seen_classes(torch.zeros(1, 4), torch.tensor([[0.0, 1, 0, 1]])).tolist() == [[True, True, False, False]]


def test_per_class_counts_only_images_asked_for_the_class() -> None:
    asked = torch.tensor([[1.0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]])
    rows = score(LOGITS, asked).per_class(["a", "b", "c", "d"])
    assert [(row["class"], row["images"], row["correct"], row["accuracy"]) for row in rows] == [
        ("a", 2, 1, 0.5),
        ("b", 1, 0, 0.0),
    ]


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 8))
def test_as_many_classes_are_seen_as_asked_and_they_are_the_highest(seed: int, images: int, classes: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, classes, generator=generator)
    asked = (torch.rand(images, classes, generator=generator) < 0.4).float()
    asked[:, 0] = 1
    seen = seen_classes(logits, asked)
    assert torch.equal(seen.sum(dim=1), asked.sum(dim=1).long())
    for row, mask in zip(logits, seen, strict=True):
        if 0 < int(mask.sum()) < classes:
            assert float(row[mask].min()) >= float(row[~mask].max())


def test_chance_is_what_random_logits_reach() -> None:
    generator = torch.Generator().manual_seed(0)
    asked = torch.tensor([[1.0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]]).repeat(20_000, 1)
    reached = score(torch.randn(asked.shape, generator=generator), asked).accuracy().value
    assert chance(asked) == pytest.approx((1 + 4 + 9) / (4 * 6))
    assert reached == pytest.approx(chance(asked), abs=0.005)


def test_shuffled_label_sets_are_the_mean_over_all_shuffles() -> None:
    asked = torch.tensor([[1.0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]])
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    orders = [torch.tensor(order) for order in itertools.permutations(range(4))]
    accuracies = [score(logits, asked[order]).accuracy().value for order in orders]
    exact = [score(logits, asked[order]).exact_match().value for order in orders]
    row = shuffled_row("test", logits, asked)
    assert row["accuracy"] == pytest.approx(sum(accuracies) / len(orders), abs=1e-6)
    assert row["exact_match"] == pytest.approx(sum(exact) / len(orders), abs=1e-6)


def test_a_perfect_generator_of_balanced_classes_shuffles_to_chance() -> None:
    conditions = torch.eye(10).repeat(7, 1)
    assert shuffled_row("test", 8 * conditions - 4, conditions)["accuracy"] == pytest.approx(0.1)
