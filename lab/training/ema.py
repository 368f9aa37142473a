"""EMAs of a network in training: how much of the average stays at each update.

average <- kept average + (1 - kept) weights
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]
Update = Callable[[Tensors, Tensors, Tensor | int], None]
"""torch's multi_avg_fn: it changes the averages, given the current weights and the number of earlier updates."""


def ema(network: nn.Module, update: Update) -> AveragedModel:
    """Return a copy of a network that `update_parameters` averages, buffers included."""
    return AveragedModel(network, multi_avg_fn=update, use_buffers=True)


def ema_update(decay: float) -> Update:
    """Return the update of an EMA whose decay is warmed up: min(decay, (1 + n) / (10 + n)) after n updates.

    Without the warm-up the copy is mostly its random initialisation for the first 1 / (1 - decay) updates.
    """
    return _update(lambda updates: min(decay, (1 + updates) / (10 + updates)))


def power_update(gamma: float) -> Update:
    """Return the update of a power-function EMA: (1 - 1/t)^(gamma + 1) at update t, counted from 1.

    Nothing is left of the initial weights, because it is 0 at t = 1.
    """
    return _update(lambda updates: (1 - 1 / (updates + 1)) ** (gamma + 1))


def _update(kept: Callable[[int], float]) -> Update:
    @torch.no_grad()
    def update(averages: Tensors, currents: Tensors, updates: Tensor | int) -> None:
        share = kept(int(updates))
        for average, current in zip(averages, currents, strict=True):
            if average.is_floating_point():
                average.lerp_(current, 1 - share)
            else:
                average.copy_(current)

    return update
