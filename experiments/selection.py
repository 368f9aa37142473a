"""Selection: the best of n images, chosen by the second evaluator or by the denoiser's own lift."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.configuration import Experiment
from lab.configuration.networks import ANY_SIZE, student_steps
from lab.errors import LabError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from evaluator.reporting.results import Results
    from experiments.reporting import Evidence
    from lab.sweep.cells import StoredResult

LIFTS = "lifts"


def require_lift(experiment: Experiment) -> None:
    """Raise LabError if the lift is to be measured, and the denoiser has no null condition or not all timesteps."""
    sizes = experiment.denoiser.label_set_sizes
    training = experiment.training
    # What an earlier training has shown the network is not known.
    untaught = training.epochs > 0 and not training.context_dropout and training.start_from is None
    if experiment.sweep.lift_draws and (untaught or (sizes != ANY_SIZE and 0 not in sizes)):
        raise LabError("--sweep.lift-draws needs a null condition, which the network does not have; set it to 0")
    if experiment.sweep.lift_draws and student_steps(experiment.denoiser):
        from lab.sweep.fit import require_all_timesteps

        require_all_timesteps(experiment.denoiser, "--sweep.lift-draws")


def best_of(evidence: Evidence, results: Results) -> pd.DataFrame | None:
    """Return the rows of `best_of_n.csv`, of the checkpoint of each method; None if there is nothing to choose by."""
    import pandas as pd
    from tqdm import tqdm

    from evaluator.classifiers.networks import logits_in_batches
    from evaluator.judging.best_of import accepted_row, best_of_rows, log_likelihood
    from lab.sweep.lift import EVALUATIONS

    second, draws = evidence.evaluators.second, evidence.experiment.sweep.lift_draws
    if second is None and not draws:
        return None
    chosen = [
        each
        for each in zip(results.cells, results.scored, evidence.cells, strict=True)
        if each[0].settings["checkpoint"] == results.checkpoint_of[each[0].settings["guidance_method"]]
    ]
    rows: list[dict[str, Any]] = []
    for cell, scored, result in tqdm(chosen, desc="selection", unit="cell"):
        if second is not None:
            conditions = results.vocabulary.conditions(cell.label_sets)
            likelihood = log_likelihood(logits_in_batches(second.classifier, cell.pixels()), conditions)
            rows += best_of_rows(cell, scored, "second evaluator", likelihood)
        if draws:
            lift = measured_lifts(evidence, result, draws)
            rows += best_of_rows(cell, scored, "lift", lift, draws * EVALUATIONS)
            rows.append(accepted_row(cell, scored, "lift above 0", lift > 0, draws * EVALUATIONS))
    return pd.DataFrame(rows).astype({"n": "Int64"})


def measured_lifts(evidence: Evidence, result: StoredResult, draws: int) -> np.ndarray:
    """Return the lift of each image of a cell, from its file if it was measured before."""
    import numpy as np

    from lab.machine.files import whole_file

    experiment = evidence.experiment
    path: Path = experiment.checkpoints / LIFTS / f"{result.cell.key}_{draws}.npy"
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError):  # it was not measured, or its file is damaged
        lifts = _lifts(evidence, result, draws)
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, lifts)
    return lifts


def _lifts(evidence: Evidence, result: StoredResult, draws: int) -> np.ndarray:
    from lab.diffusion.schedules import noise_schedule
    from lab.sweep.lift import lifts
    from lab.training.checkpoints import load_checkpoint

    cell, computation = result.cell, evidence.computation
    vocabulary = evidence.splits.held_out.vocabulary
    checkpoint = load_checkpoint(evidence.experiment.swept_checkpoints / f"{cell.checkpoint}.pt", vocabulary)
    predictor, schedule = checkpoint.noise_predictor(computation), noise_schedule(checkpoint.schedule)
    conditions = vocabulary.conditions(cell.asked).to(computation.device)
    return lifts(predictor, schedule, result.pixels, conditions, cell.noise_seeds, draws).numpy()
