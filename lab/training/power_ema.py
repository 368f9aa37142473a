"""Power-function EMAs: an EMA of any length, rebuilt after training (EDM2, Karras et al. 2024, arXiv:2312.02696).

    average_t = beta_t average_(t-1) + (1 - beta_t) weights_t,    beta_t = (1 - 1/t)^(gamma + 1)

is the mean of the weights under the profile p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1) on [0, t]. Its length is the
standard deviation of the profile, relative to t:

    sigma_rel = (gamma + 1)^(1/2) (gamma + 2)^(-1) (gamma + 3)^(-1/2)

Training keeps EMAs of a few lengths and saves snapshots of them. An EMA of another length is the linear combination of
the snapshots whose profile is nearest to its own in the L2 norm (appendix C). Here its coefficients also add up to 1:
EDM2's networks normalise their weights, so a factor changes nothing there, and the lab's do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lab.errors import LabError
from lab.machine.files import load_tensors, remove_all, require_format, require_keys, save_tensors
from lab.training.checkpoints import Checkpoint

FOLDER = "power_emas"
"""The folder of the snapshots, beside the checkpoints."""
FORMAT = 1
"""Raise it when what a snapshot's file holds changes."""
SNAPSHOTS = 16
"""Snapshots of a training, evenly spaced. With lengths 0.05 and 0.10, the profile at the end is off by 4 % for length
0.03, by 0.4 % for 0.07 and by 2 % for 0.2."""


def gamma_of(length: float) -> float:
    """Return the exponent of the profile of this length: the largest root of

    gamma^3 + 7 gamma^2 + (16 - length^-2) gamma + 12 - length^-2
    """
    roots = np.roots([1, 7, 16 - length**-2, 12 - length**-2])
    return float(roots.real.max())


@dataclass(frozen=True)
class Profiles:
    """Profiles of power-function EMAs.

    Args:
        steps: t, where each ends, above 0.
        gammas: the exponent of each.
    """

    steps: Float[np.ndarray, " profile"]
    gammas: Float[np.ndarray, " profile"]

    @classmethod
    def of(cls, steps: Sequence[int], lengths: Sequence[float]) -> "Profiles":
        """Return the profiles of all lengths at the first step, at the second step, and so on."""
        gammas = [gamma_of(length) for length in lengths]
        return cls(np.repeat(np.asarray(steps, dtype=np.float64), len(lengths)), np.tile(gammas, len(steps)))

    def inner_products(self, other: "Profiles") -> Float[np.ndarray, "profile other"]:
        """Return the integral of p_a(tau) p_b(tau) for every pair of profiles:

        (gamma_a + 1) (gamma_b + 1) / (gamma_a + gamma_b + 1) (t_min / t_max)^gamma / t_max,

        where gamma is that of the profile that ends later.
        """
        t_a, gamma_a = self.steps[:, None], self.gammas[:, None]
        t_b, gamma_b = other.steps[None], other.gammas[None]
        later, t_max = np.where(t_a < t_b, gamma_b, gamma_a), np.maximum(t_a, t_b)
        scale = (gamma_a + 1) * (gamma_b + 1) / (gamma_a + gamma_b + 1)
        return np.asarray(scale * (np.minimum(t_a, t_b) / t_max) ** later / t_max)


def combination(stored: Profiles, wanted: Profiles) -> tuple[Float[np.ndarray, "profile wanted"], list[float]]:
    """Return the combinations of stored profiles, with coefficients that add up to 1, nearest to the wanted ones.

    Their least squares is solved in float64, with a Lagrange multiplier for the sum.

    Returns:
        A column of coefficients for each wanted profile, and the L2 norm of what it is off by, relative to its own.
    """
    products, with_wanted = stored.inner_products(stored), stored.inner_products(wanted)
    ones = np.ones((len(products), 1))
    constrained = np.block([[products, ones], [ones.T, np.zeros((1, 1))]])
    coefficients = np.linalg.solve(constrained, np.vstack((with_wanted, np.ones(with_wanted.shape[1]))))[:-1]
    squared = np.diag(wanted.inner_products(wanted))
    fitted = (2 * coefficients * with_wanted - coefficients * (products @ coefficients)).sum(axis=0)
    return coefficients, np.sqrt(np.maximum(0, 1 - fitted / squared)).tolist()


def snapshot_steps(total_steps: int) -> set[int]:
    """Return the optimizer steps after which snapshots are saved; the last is the last of the training."""
    return {round(total_steps * (place + 1) / SNAPSHOTS) for place in range(SNAPSHOTS)} - {0}


def save_snapshot(folder: Path, step: int, averages: Sequence[dict[str, Tensor]]) -> None:
    """Write the EMAs of a training at one step, whole or not at all.

    Args:
        folder: of the checkpoints.
        step: optimizer steps so far.
        averages: the state of each EMA.

    Raises:
        LabError: the file cannot be written.
    """
    save_tensors(_snapshot(folder, step), {"format": FORMAT, "step": step, "averages": list(averages)})


def remove_snapshots(folder: Path) -> None:
    """Remove the snapshots of an earlier training in a folder of checkpoints, and the checkpoints rebuilt from them."""
    remove_all([*(folder / FOLDER).glob("step*.pt"), *folder.glob("ema*-epoch*.pt")])


def rebuilt(folder: Path, checkpoint: Checkpoint, lengths: Sequence[float]) -> list[tuple[Checkpoint, float]]:
    """Return a checkpoint with EMAs of other lengths, each with the relative error of its profile.

    Args:
        folder: of the checkpoints of the training.
        checkpoint: one of them, at a step that has a snapshot, such as the last.
        lengths: sigma_rel of each EMA.

    Raises:
        LabError: the training kept no power-function EMAs, or a snapshot is missing or damaged.
    """
    kept = checkpoint.training.get("power_emas")
    if not kept:
        raise LabError(f"{folder}: this training kept no power-function EMAs; train with --training.power-emas")
    steps = sorted(
        step
        for path in (folder / FOLDER).glob("step*.pt")
        if (number := path.stem.removeprefix("step")).isdecimal() and (step := int(number)) <= checkpoint.step
    )
    if checkpoint.step not in steps:
        raise LabError(
            f"{_snapshot(folder, checkpoint.step)}: no such snapshot; restore it, or delete {folder} to train again"
        )
    coefficients, errors = combination(Profiles.of(steps, kept), Profiles.of([checkpoint.step], lengths))
    averaged = [name for name, tensor in checkpoint.weights.items() if tensor.is_floating_point()]
    sums = [
        {name: torch.zeros_like(checkpoint.weights[name], dtype=torch.float64) for name in averaged} for _ in lengths
    ]
    # One snapshot in memory at a time.
    for step, of_step in zip(steps, coefficients.reshape(len(steps), len(kept), len(lengths)), strict=True):
        for average, of_average in zip(_averages(folder, step, checkpoint, len(kept)), of_step, strict=True):
            for total, coefficient in zip(sums, of_average.tolist(), strict=True):
                for name in averaged:
                    total[name] += coefficient * average[name].double()
    return [
        (
            replace(
                checkpoint,
                settings=checkpoint.settings | {"ema_length": length},
                weights=checkpoint.weights
                | {name: total[name].to(checkpoint.weights[name].dtype) for name in averaged},
            ),
            error,
        )
        for length, total, error in zip(lengths, sums, errors, strict=True)
    ]


def _snapshot(folder: Path, step: int) -> Path:
    return folder / FOLDER / f"step{step:07d}.pt"


def _averages(folder: Path, step: int, checkpoint: Checkpoint, count: int) -> list[dict[str, Tensor]]:
    """Return the EMAs of a snapshot, after checking that they are a network's of the checkpoint."""
    path, remedy = _snapshot(folder, step), f"restore a copy, or delete {folder} to train again"
    content = load_tensors(path, "snapshot", remedy)
    require_format(path, content.get("format"), FORMAT)
    require_keys(path, "snapshot", content, ("step", "averages"))
    averages: Any = content["averages"]
    shapes = {name: tensor.shape for name, tensor in checkpoint.weights.items()}
    try:
        fits = content["step"] == step and len(averages) == count
        fits = fits and all({name: each[name].shape for name in each} == shapes for each in averages)
    except (AttributeError, TypeError):
        fits = False
    if not fits:
        raise LabError(f"{path}: this snapshot does not match the network of the checkpoints; {remedy}")
    return list(averages)
