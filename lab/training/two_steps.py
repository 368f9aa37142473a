"""Two DDIM steps of a teacher as one step of its student (progressive distillation, Salimans & Ho 2022,
arXiv:2202.00512, algorithm 2).

From x_t, the teacher takes two DDIM steps, to s and on to u, t > s > u. Its clean predictions are x_1 of x_t and x_2 of
x_s. The single DDIM step from t to u that ends at the same x_u predicts

    x_0 = x_1 + share (x_2 - x_1),    share = (r_u - r_s) / (r_u - r_t),    r = alpha / sigma,

a mean of the two. At the clean image r is infinite and the share is 1. The timesteps are those that a sampler of 2 N
steps goes through; every second of them, from the noisiest on, is one of the student's N.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lab.diffusion.denoising import timestep_grid
from lab.diffusion.schedules import NoiseSchedule
from lab.types import Images, Timesteps

END = -1
"""The end of the schedule, where it stands for a timestep."""


class TwoSteps:
    """The pairs of DDIM steps that a student of few steps learns to take at once.

    Args:
        schedule: the noise schedule.
        sampling_steps: N, the student's number of steps, at most half as many as timesteps.

    Raises:
        LabError: there are fewer than 2 N timesteps.
    """

    def __init__(self, schedule: NoiseSchedule, sampling_steps: int) -> None:
        grid = torch.tensor([*timestep_grid(schedule.timesteps, 2 * sampling_steps), END])
        self.timesteps = grid[:-1:2]
        self._halfway, self._after = (torch.full((schedule.timesteps,), END) for _ in range(2))
        self._halfway[self.timesteps], self._after[self.timesteps] = grid[1::2], grid[2::2]
        # The last entry, which END is the index of, is the end of the schedule.
        self._alpha, self._sigma = (
            torch.cat((amounts, amounts.new_tensor([end])))
            for amounts, end in zip((schedule.alpha, schedule.sigma), schedule.end, strict=True)
        )

    def merged(self, predict: Callable[[Images, Timesteps], Images], x_t: Images, timesteps: Timesteps) -> Images:
        """Return x_0 of the step that two of the teacher's amount to, shaped like x_t.

        Args:
            predict: the teacher's clean images of x at these timesteps.
            x_t: (B, C, H, W).
            timesteps: (B,), each one of `self.timesteps`.
        """
        here = timesteps.cpu()
        halfway, after = self._halfway[here], self._after[here]
        (a_t, s_t), (a_s, s_s), (a_u, s_u) = (self._amounts(each, x_t) for each in (here, halfway, after))
        first = predict(x_t, timesteps)
        x_s = a_s * first + s_s / s_t * (x_t - a_t * first)
        second = predict(x_s, halfway.to(timesteps.device))
        share = (a_u * s_s - s_u * a_s) * s_t / ((a_u * s_t - s_u * a_t) * s_s)
        return first + share * (second - first)

    def _amounts(self, timesteps: Timesteps, like: Images) -> tuple[Tensor, Tensor]:
        return tuple(  # type: ignore[return-value]  # of two
            each[timesteps].to(like.device, like.dtype)[:, None, None, None] for each in (self._alpha, self._sigma)
        )
