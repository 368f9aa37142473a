"""Ablations: an experiment repeated with one setting changed at a time, over several seeds.

All runs share one evaluator and one split of the images, so they differ only in the changed setting and the seed.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from experiments.choices import with_changes
from experiments.configuration import Changes, Experiment
from experiments.reporting import refuse_other_report, rehearse, write_config
from experiments.stages import class_vocabulary, computation_of, load_splits, run, sharing_evaluator, whole_comparison
from lab.errors import LabError

if TYPE_CHECKING:
    import pandas as pd

SEEDS = 3


def changed(experiment: Experiment, changes: Changes) -> Experiment:
    """Return an experiment with some settings of its sections changed.

    Raises:
        LabError: the experiment already has these settings.
    """
    variant = with_changes(experiment, changes)
    if variant == experiment:
        raise LabError(f"{experiment.name} already has the settings of its variant, {changes}; change them back")
    return variant


def run_ablation(experiment: Experiment, variants: dict[str, Changes]) -> None:
    """Run an experiment and its variants with consecutive seeds, then write `ablation.csv` and its figure.

    The first seed is the experiment's. Finished runs are not repeated, so the same command resumes after a stop.
    """
    # Report a wrong variant before any time is spent on training.
    for changes in variants.values():
        changed(experiment, changes)
    with whole_comparison(experiment):
        _run_ablation(experiment, variants)


def _run_ablation(experiment: Experiment, variants: dict[str, Changes]) -> None:
    from evaluator.reporting.ablation import write_ablation

    computation = computation_of(experiment)
    refuse_other_report(experiment)
    vocabulary = class_vocabulary(experiment)
    splits = load_splits(experiment, vocabulary)
    rehearse(experiment, vocabulary)
    shared = sharing_evaluator(experiment, splits, computation.device)
    planned = {"unchanged": shared} | {name: changed(shared, changes) for name, changes in variants.items()}
    rankings: dict[str, list[pd.DataFrame]] = {}
    for name, variant in planned.items():
        rankings[name] = []
        for seed in range(variant.seed, variant.seed + SEEDS):
            # Each run trains its own denoiser.
            one = replace(
                variant, name=f"{variant.name}-{name.replace(' ', '-')}-seed{seed}", checkpoints_of="", seed=seed
            )
            print(f"{one.name}:", file=sys.stderr)
            rankings[name].append(run(one).ranking)
    label_sets = experiment.data.label_set_names
    write_config(experiment, computation)
    table = write_ablation(experiment.reports, experiment.name, rankings, label_sets)
    shown = ["variant", "label_set", "accuracy", "accuracy_low", "accuracy_high", "difference"]
    print(table[shown].to_string(index=False))
    print(f"ablation: {experiment.reports / 'ablation.md'}")
