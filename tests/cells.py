"""A sweep cell for tests to change."""

from typing import Any

from lab.configuration.diffusion import DDIMConfig
from lab.guidance.classifier_free import PlainMethod
from lab.sweep.cells import SweepCell


def a_cell(one: type = SweepCell, **changes: Any) -> Any:
    """Return a cell of this class with these settings changed."""
    settings = {
        "checkpoint": "epoch0001", "epoch": 1, "step": 1, "checkpoint_digest": "a", "evaluator_digest": "b",
        "label_set_file": "test", "label_sets": (("cube",), ("cone",)), "method_name": "plain", "method": PlainMethod(),
        "guidance_weight": 1.0, "sampler": DDIMConfig(sampling_steps=2), "precision": "float32", "seeds": 1,
    }  # fmt: skip
    return one(**(settings | changes))
