"""Accuracy by epoch: the accuracies of every checkpoint at w = 0, beside the loss of its epoch."""

import pandas as pd

from evaluator.judging.ranking import OF_GUIDANCE, accuracy_by_checkpoint


def accuracy_by_epoch(sweep: pd.DataFrame, training: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `accuracy_by_epoch.csv`, in the order of the epochs; none if no cell is unguided.

    Args:
        sweep: rows of `sweep.csv`. Only those of plain guidance, or of a student, at w = 0 count.
        training: rows of `training.csv`; it may be empty.

    Returns:
        The columns epoch, step and loss, the mean over the epoch's images, then NAME, NAME_low and NAME_high for every
        label-set file NAME. The loss of an epoch that was not trained here is missing.
    """
    unguided = sweep[sweep["guidance_method"].isin(["plain", "distilled"]) & (sweep["guidance_weight"] == 0)]
    table = accuracy_by_checkpoint(unguided).sort_values("epoch", ignore_index=True)
    of_guidance = ["guidance_method", "guidance_weight", "guidance_scale", *OF_GUIDANCE]
    accuracies = table.drop(columns=["checkpoint", *of_guidance])
    losses = dict(zip(training["epoch"], training["loss"], strict=True)) if len(training) else {}
    accuracies.insert(2, "loss", [losses.get(epoch, float("nan")) for epoch in accuracies["epoch"]])
    return accuracies
