"""Results: accuracy by size of label set and by whether training showed the labels together, by hand."""

import pytest
import torch

from evaluator.judging.cells import JudgedCell
from evaluator.reporting.results import Results
from lab.data.labels import ClassVocabulary, LabelSet

VOCABULARY = ClassVocabulary(("cube", "sphere", "cone"))


def results(label_sets: list[LabelSet], seen: list[LabelSet], trained: list[LabelSet]) -> Results:
    """Return the results of one cell in which the evaluator sees `seen` where `label_sets` was asked for."""
    settings = {"checkpoint": "epoch0001", "epoch": 1, "step": 1, "label_set": "test", "guidance_method": "plain"}
    settings |= {"guidance_weight": 1.0, "guidance_scale": 2.0, "effective_guidance_scale": 2.0, "guidance_warning": ""}
    logits = VOCABULARY.conditions(seen) * 2 - 1
    pixels = torch.zeros(len(label_sets), 1, 4, 4, dtype=torch.uint8)
    return Results(
        vocabulary=VOCABULARY,
        cells=[JudgedCell(settings, {}, label_sets, lambda: pixels, logits)],
        earlier=[],
        held_out_logits=logits,
        held_out_conditions=VOCABULARY.conditions(label_sets),
        trained_conditions=VOCABULARY.conditions(trained),
    )


def test_accuracy_is_told_apart_by_size_and_by_what_was_seen_together() -> None:
    asked: list[LabelSet] = [("cube",), ("cube", "sphere"), ("cube", "sphere"), ("cube", "cone")]
    seen: list[LabelSet] = [("cube",), ("cube", "sphere"), ("cube", "cone"), ("sphere", "cone")]
    table = results(asked, seen, trained=[("cube", "sphere"), ("cone",)]).by_size
    told = table[["labels_asked", "seen_together", "images", "accuracy"]].to_numpy().tolist()
    assert told == [[1, True, 1, 1.0], [2, False, 1, 0.5], [2, True, 2, 0.75]]


def test_labels_within_a_larger_set_were_seen_together() -> None:
    one = results([("cube", "cone")], [("cube", "cone")], trained=[("cube", "sphere", "cone")])
    assert one.by_size["seen_together"].tolist() == [True]
    assert not one.has_sizes


@pytest.mark.parametrize(
    ("label_sets", "trained", "expected"),
    [
        ([("cube",), ("cone",)], [("cube",), ("cone",)], False),
        ([("cube",), ("cone",)], [("cube",)], True),
        ([("cube",), ("cube", "cone")], [("cube", "cone")], True),
    ],
)
def test_one_size_of_one_kind_is_no_comparison(
    label_sets: list[LabelSet], trained: list[LabelSet], expected: bool
) -> None:
    assert results(label_sets, label_sets, trained).has_sizes is expected
