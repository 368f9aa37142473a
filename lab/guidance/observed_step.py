"""An observed step: the conditional and the unconditional prediction that guidance makes at one step.

It notes evaluations of the network and adds none. What a method does not evaluate, it does not have.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lab.types import Conditions, Images, Timesteps


@dataclass
class ObservedStep:
    """The halves that one step has evaluated so far, of the images (B, C, H, W) at x_t.

    Args:
        x_t, timesteps, conditions: what guidance is called with.
        halves: the conditional and the unconditional prediction, (B, C, H, W) each; zeros until evaluated.
        evaluated: for each half, (B,), True where it is evaluated for the image.
        other: (B,), True where anything else is evaluated for the image.
    """

    x_t: Images
    timesteps: Timesteps
    conditions: Conditions
    halves: list[Images]
    evaluated: list[Tensor]
    other: Tensor

    @classmethod
    def at(cls, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> "ObservedStep":
        """Return a step at which nothing is evaluated yet."""
        none = torch.zeros(len(x_t), dtype=torch.bool, device=x_t.device)
        return cls(x_t, timesteps, conditions, [torch.zeros_like(x_t)] * 2, [none] * 2, none)

    def note_other(self) -> None:
        """Note that something else is evaluated for every image."""
        # Not in place, here and below: a method that takes gradients runs outside of inference mode.
        self.other = torch.ones_like(self.other)

    def note(self, x_t: Images, timesteps: Timesteps, conditions: Conditions, predicted: Images) -> None:
        """Note the halves among the rows of one evaluation, and mark the images of which it evaluates anything else."""
        images = len(self.x_t)
        # A student is given w as well, and predicts neither half.
        if len(x_t) % images or conditions.shape[1] != self.conditions.shape[1]:
            self.note_other()
            return
        blocks = zip(*(torch.split(rows, images) for rows in (x_t, timesteps, conditions, predicted)), strict=True)
        for block_x_t, block_timesteps, block_conditions, block_predicted in blocks:
            # Timesteps are on the CPU; the rest stays on the device, since a branch on it would wait for a GPU.
            same = (block_x_t == self.x_t).flatten(1).all(dim=1) & torch.equal(block_timesteps, self.timesteps)
            conditional = same & (block_conditions == self.conditions).all(dim=1)
            unconditional = same & ~block_conditions.any(dim=1)
            for half, chosen in enumerate((conditional, unconditional)):
                self.halves[half] = torch.where(chosen.view(-1, 1, 1, 1), block_predicted, self.halves[half])
                self.evaluated[half] = self.evaluated[half] | chosen
            self.other = self.other | ~(conditional | unconditional)
