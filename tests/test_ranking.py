"""The ranking: one file decides, the other is only shown, ties are named."""

import numpy as np
import pandas as pd

from evaluator.judging.cells import NOT_TO_BE_BELIEVED
from evaluator.judging.ranking import accuracy_by_checkpoint, ranking
from evaluator.judging.scoring import ScoredImages


def sweep() -> pd.DataFrame:
    accuracies = {
        ("a", 0.0, "test"): (0.80, 0.75, 0.85),
        ("a", 2.0, "test"): (0.95, 0.92, 0.98),
        ("b", 0.0, "test"): (0.94, 0.91, 0.97),
        ("b", 2.0, "test"): (0.95, 0.92, 0.98),
        ("a", 0.0, "new_test"): (0.99, 0.98, 1.00),
        ("a", 2.0, "new_test"): (0.50, 0.45, 0.55),
        ("b", 0.0, "new_test"): (0.51, 0.46, 0.56),
        ("b", 2.0, "new_test"): (0.52, 0.47, 0.57),
    }
    return pd.DataFrame(
        {
            "checkpoint": checkpoint,
            "epoch": "ab".index(checkpoint) + 1,
            "step": 10 * ("ab".index(checkpoint) + 1),
            "guidance_method": "plain",
            "guidance_weight": weight,
            "guidance_scale": 1 + weight,
            # The second file has other images, and its own scale.
            "effective_guidance_scale": 1 + weight + (0.1 if label_set == "new_test" else 0),
            "guidance_warning": "",
            "label_set": label_set,
            "accuracy": accuracy,
            "accuracy_low": low,
            "accuracy_high": high,
        }
        for (checkpoint, weight, label_set), (accuracy, low, high) in accuracies.items()
    )


def test_a_row_for_each_candidate_and_a_column_for_each_file() -> None:
    table = accuracy_by_checkpoint(sweep())
    assert list(table.columns[-6:]) == ["test", "test_low", "test_high", "new_test", "new_test_low", "new_test_high"]
    row = table[(table["checkpoint"] == "a") & (table["guidance_weight"] == 2)].iloc[0]
    assert (row["test"], row["new_test"], row["new_test_high"]) == (0.95, 0.50, 0.55)
    assert len(table) == 4


def test_the_first_file_alone_decides_and_equals_go_to_the_later_checkpoint() -> None:
    # In the order of the table: a at 0 and 2, b at 0 and 2.
    right = np.array([80, 95, 94, 95])[:, None] > np.arange(100)
    scored = [ScoredImages(asked=np.ones((100, 1), dtype=bool), seen=row[:, None], found=row[:, None]) for row in right]
    ranked, optimism = ranking(accuracy_by_checkpoint(sweep()), "test", scored)
    assert list(zip(ranked["checkpoint"], ranked["guidance_weight"], strict=True)) == [
        ("b", 2.0), ("a", 2.0), ("b", 0.0), ("a", 0.0),
    ]  # fmt: skip
    assert list(ranked["rank"]) == [1, 2, 3, 4]
    assert list(ranked["tied_with_best"]) == [True, True, True, False]
    assert list(ranked["behind_best"]) == [0, 0, 0.01, 0.15]
    assert list(ranked["rank_low"]) == [1, 1, 1, 4]
    assert list(ranked["rank_high"]) == [1, 1, 3, 4]
    assert optimism > 0


def test_ties_go_to_the_smallest_effective_scale() -> None:
    # Method, nominal scale, effective scale: a weight means different things for different methods.
    candidates = [("plain", 2.5, 2.5), ("plus_plus", 1.0, 3.2), ("interval", 3.0, 2.2), ("auto", 2.3, float("nan"))]
    table = pd.DataFrame(
        {
            "checkpoint": "a", "epoch": 1, "step": 1, "guidance_method": method, "guidance_weight": scale - 1,
            "guidance_scale": scale, "effective_guidance_scale": effective, "guidance_warning": "",
            "test": 1.0, "test_low": 0.9, "test_high": 1.0,
        }
        for method, scale, effective in candidates
    )  # fmt: skip
    right = np.ones((100, 1), dtype=bool)
    scored = [ScoredImages(asked=right, seen=right, found=right)] * len(candidates)
    ranked, _ = ranking(table, "test", scored)
    assert ranked["guidance_method"].to_list() == ["interval", "auto", "plain", "plus_plus"]


def test_a_candidate_has_the_effective_scale_of_the_file_that_ranks() -> None:
    table = accuracy_by_checkpoint(sweep())
    assert table["effective_guidance_scale"].to_list() == table["guidance_scale"].to_list()


def test_a_row_that_is_not_to_be_believed_is_last_and_nothing_is_compared_with_it() -> None:
    accuracies = [90, 99, 89]
    table = pd.DataFrame(
        {
            "checkpoint": "a", "epoch": 1, "step": 1, "guidance_method": method, "guidance_weight": 0.0,
            "guidance_scale": 1.0, "effective_guidance_scale": float("nan"), "guidance_warning": warning,
            "test": accuracy / 100, "test_low": 0.8, "test_high": 1.0,
        }
        for method, warning, accuracy in zip(
            ("guide", "judge", "plain"), ("", f"{NOT_TO_BE_BELIEVED}; beyond", "beyond"), accuracies, strict=True
        )
    )  # fmt: skip
    right = np.array(accuracies)[:, None] > np.arange(100)
    scored = [ScoredImages(asked=np.ones((100, 1), dtype=bool), seen=row[:, None], found=row[:, None]) for row in right]
    ranked, optimism = ranking(table, "test", scored)
    assert ranked["guidance_method"].to_list() == ["guide", "plain", "judge"]
    assert ranked["tied_with_best"].to_list() == [True, True, False]
    assert ranked["behind_best"].to_list() == [0, 0.01, -0.09]
    assert ranked[["rank_low", "rank_high"]].iloc[2].to_list() == [3, 3]
    alone, same = ranking(table.iloc[[0, 2]].reset_index(drop=True), "test", [scored[0], scored[2]])
    assert optimism == same
    assert alone["rank_high"].to_list() == ranked["rank_high"].to_list()[:2]
