"""Studies: one experiment with several training seeds, whose intervals cover trainings as well as images.

All trainings share one evaluator and one split of the images.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from experiments.configuration import Experiment
from experiments.distillation import of_student, require_guidance_of_students
from experiments.reporting import results_of, write_config
from experiments.runs import run_each
from experiments.stages import Comparison, sharing_evaluator, whole_comparison

if TYPE_CHECKING:
    from evaluator.judging.trainings import CountedCell
    from evaluator.reporting.results import Results

INTRODUCTION = (
    "One recipe, trained with several seeds, under one evaluator and on one split of the images.",
    "Intervals on this page cover images alone; study.md has those that cover another training too.",
)


def run_study(experiment: Experiment) -> None:
    """Run an experiment with each of its training seeds, as NAME-seed0 and so on, then write their table and figure.

    Finished runs are not repeated, so the same command resumes after a stop.
    """
    from lab.guidance.methods import named_methods

    experiment = of_student(experiment)
    # Before the evaluator is trained, which all trainings share.
    require_guidance_of_students(experiment, named_methods(experiment.guidance.method))
    with whole_comparison(experiment) as comparison:
        _run_study(experiment, comparison)


def _run_study(experiment: Experiment, comparison: Comparison) -> None:
    from evaluator.judging.trainings import accuracy_over_trainings, counted
    from evaluator.reporting.page.comparison import write_comparison
    from evaluator.reporting.study import write_study

    shared = sharing_evaluator(experiment, comparison.splits, comparison.computation.device)
    runs = [replace(shared, name=f"{experiment.name}-seed{seed}", seed=seed, seeds=()) for seed in experiment.seeds]
    trainings: dict[int, list[CountedCell]] = {}
    results: dict[str, Results] = {}
    for seed, finished in zip(experiment.seeds, run_each(runs), strict=True):
        results[f"seed {seed}"] = of_one = results_of(finished.evidence)
        trainings[seed] = counted(of_one.cells, comparison.vocabulary)
    write_config(experiment, comparison.computation)
    write_comparison(experiment.reports, experiment.name, results, "training", INTRODUCTION)
    print(write_study(experiment.reports, experiment.name, accuracy_over_trainings(trainings)))
    print(f"study: {experiment.reports / 'study.md'}")
