"""The judge: a classifier trained apart from the generator, scoring, intervals, ranking and reporting.

    configuration  settings; importing them does not import torch
    tables         tables as CSV, Markdown and LaTeX
    classifiers/   the networks that judge, their training and their files
    judging/       from logits to accuracies, intervals and a ranking
    quality/       quality beside accuracy, in the features of a second evaluator
    reporting/     tables, figures and pages for a writeup
    library        train, load and score from Python

What a notebook needs can be had as `evaluator.train`, `evaluator.score` and so on; it is imported at its first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluator.classifiers.weights import load_evaluator, save_evaluator
    from evaluator.configuration import EvaluatorConfig
    from evaluator.library import baseline, score, score_folder, train

__all__ = ["EvaluatorConfig", "baseline", "load_evaluator", "save_evaluator", "score", "score_folder", "train"]

_ROOMS = {
    "evaluator.classifiers.weights": ("load_evaluator", "save_evaluator"),
    "evaluator.configuration": ("EvaluatorConfig",),
    "evaluator.library": ("baseline", "score", "score_folder", "train"),
}


def __getattr__(name: str) -> Any:
    """Import a name of `__all__` at its first use."""
    for room, names in _ROOMS.items():
        if name in names:
            return getattr(import_module(room), name)
    raise AttributeError(f"module 'evaluator' has no attribute {name!r}; it has {', '.join(__all__)}")
