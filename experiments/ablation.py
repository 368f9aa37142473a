"""Ablations: an experiment and variants of it with other settings, over several seeds.

All runs share one evaluator and one split of the images, so they differ only in the changed settings and the seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evaluator.reporting.printed import PrintedResult
from experiments.choices import with_changes
from experiments.configuration import Changes, Experiment
from experiments.reporting import results_of, write_config
from experiments.runs import run_each
from experiments.stages import Comparison, sharing_evaluator, starting_from_imported, whole_comparison
from lab.errors import LabError

if TYPE_CHECKING:
    import pandas as pd

    from evaluator.reporting.results import Results

SEEDS = 3


@dataclass(frozen=True)
class Ablation:
    """What an experiment is compared with.

    Args:
        unchanged: the name of the experiment as it is, among its variants.
        variants: the settings that each variant changes, by the variant's name.
        printed: results that the source of the comparison printed.
    """

    unchanged: str
    variants: Mapping[str, Changes]
    printed: Sequence[PrintedResult] = ()


def changed(experiment: Experiment, changes: Changes) -> Experiment:
    """Return an experiment with some settings of its sections changed.

    Raises:
        LabError: the experiment already has these settings.
    """
    variant = with_changes(experiment, changes)
    if variant == experiment:
        raise LabError(f"{experiment.name} already has the settings of its variant, {changes}; change them back")
    return variant


def run_ablation(experiment: Experiment, ablation: Ablation) -> None:
    """Run an experiment and its variants with each seed, then write their tables and the figure.

    Without `--seeds`, there are three consecutive ones, of which the first is the experiment's. Finished runs are not
    repeated, so the same command resumes after a stop.

    Raises:
        LabError: w = 0 with plain guidance, where variants are compared, is not swept.
    """
    if 0 not in experiment.sweep.guidance_weights or "plain" not in experiment.guidance.method:
        raise LabError(
            "an ablation compares its variants at w = 0 with plain guidance; add 0 to --sweep.guidance-weights and "
            "plain to --guidance.method"
        )
    # Report a wrong variant before any time is spent on training.
    for changes in ablation.variants.values():
        changed(experiment, changes)
    if experiment.distillation.teacher is not None or starting_from_imported(experiment) != experiment:
        option = "--training.start-from" if experiment.distillation.teacher is None else "--distillation.teacher"
        raise LabError(f"{option} decides the network, which the variants of an ablation change; remove it")
    with whole_comparison(experiment) as comparison:
        _run_ablation(experiment, ablation, comparison)


def _run_ablation(experiment: Experiment, ablation: Ablation, comparison: Comparison) -> None:
    from evaluator.reporting.ablation import write_ablation
    from evaluator.reporting.page.comparison import write_comparison

    shared = sharing_evaluator(experiment, comparison.splits, comparison.computation.device)
    planned = {ablation.unchanged: shared}
    planned |= {name: changed(shared, changes) for name, changes in ablation.variants.items()}
    seeds = experiment.seeds or range(experiment.seed, experiment.seed + SEEDS)
    # Each run trains its own denoiser.
    runs = {
        (name, seed): replace(
            variant,
            name=f"{variant.name}-{name.replace(' ', '-')}-seed{seed}",
            checkpoints_of="",
            seed=seed,
            seeds=(),
        )
        for name, variant in planned.items()
        for seed in seeds
    }
    accuracies: dict[str, list[pd.DataFrame]] = {name: [] for name in planned}
    results: dict[str, Results] = {}
    for (name, seed), finished in zip(runs, run_each([*runs.values()]), strict=True):
        accuracies[name].append(finished.by_epoch)
        if seed == seeds[0]:
            results[name] = results_of(finished.evidence)
    write_config(experiment, comparison.computation)
    names = experiment.data.label_set_names
    print(write_ablation(experiment.reports, experiment.name, accuracies, names, ablation.printed))
    introduction = (
        f"An experiment, {ablation.unchanged}, and variants of it, under one evaluator and on one split of the images.",
        f"This page shows the trainings with seed {seeds[0]}, and its intervals cover images alone; ablation.md has "
        f"the means over {len(seeds)} seeds.",
    )
    write_comparison(experiment.reports, experiment.name, results, "variant", introduction)
    print(f"ablation: {experiment.reports / 'ablation.md'}")
