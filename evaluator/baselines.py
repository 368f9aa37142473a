"""Baselines: what the accuracies of the sweep stand between.

Real held-out images are the ceiling. Unconditional images, and guided images scored against what was asked of others,
are the floor: they stand at chance where every class is asked for equally often, and above it where some classes are
asked for more than others, since an image of one of those is often right by accident.
"""

from typing import Any

import torch
from torch import Tensor

from evaluator.scoring import chance, score
from lab.types import ClassLogits, Conditions


def baseline_row(name: str, label_set: str, logits: ClassLogits, conditions: Conditions) -> dict[str, Any]:
    """Return a row of `baselines.csv`.

    Args:
        name: of the baseline.
        label_set: name of the label-set file, or of the split.
        logits: what the evaluator said of the images, (N, K).
        conditions: what they are scored against, (N, K).
    """
    scored = score(logits, conditions)
    return {
        "baseline": name,
        "label_set": label_set,
        "images": len(logits),
        "chance": round(chance(conditions), 6),
        **scored.columns(),
    }


def shuffled(conditions: Conditions, seed: int = 0) -> Conditions:
    """Return the conditions in another order, so that each image is scored against what was asked of another."""
    order: Tensor = torch.randperm(len(conditions), generator=torch.Generator().manual_seed(seed))
    return conditions[order]
