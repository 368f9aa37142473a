"""FBG, feedback guidance (Koulischer et al. 2025, arXiv:2506.06085): a weight for each image and step.

The conditional distribution that a network has learned is taken to be (1 - pi) parts unconditional, with the remaining
pi right. Undoing that mixture guides at the scale

    lambda = q / (q - (1 - pi)),    q = p(x_t | y) / p(x_t)

and eps = eps_u + (w + lambda) (eps_c - eps_u). q is tracked along the trajectory, from log q = 0 at pure noise. After a
step from t to s, with the mean m and the variance v of the backward kernel p(x_s | x_t, x_0), at the clean images that
the two halves predict,

    log q <- log q - temperature / (2 v) (|x_s - m_c|^2 - |x_s - m_u|^2) + offset

An image that goes where its condition points has a large q and is guided at a scale near 1; one that does not is guided
more. log q stays between the value at which lambda is `largest` and 3. The temperature and the offset, for a grid of N
steps of which a share remains,

    offset = log(3 (1 - pi) / 2) / ((1 - start) N),    temperature = 2 v |offset| / 10 at the share `full`

so lambda reaches 3 at the share `start` if the halves are equal, and their difference outweighs the offset at `full`.
The images are in x_t / alpha, where sigma / alpha is the noise level, as in the source.

w is added to lambda: w = 0 is the source's method, and w > 0 its combination with plain guidance. Neutral: pi = 1.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
from torch import Tensor

from lab.configuration.checks import require_range
from lab.guidance.classifier_free import ClassifierFreeGuidance, mixed, two_halves
from lab.guidance.method import Facts, Unguided
from lab.types import Conditions, Images, NoisePredictor, Timesteps

HIGHEST = 3.0
"""The largest log q: the images that are surest of their condition can still be guided again."""


@dataclass(frozen=True)
class _Last:
    """The last step of a batch: its timestep, x_t / alpha, the two clean images, and log q before it, (B,)."""

    t: int
    scaled: Tensor
    conditional: Tensor
    unconditional: Tensor
    log_ratio: Tensor


class Feedback:
    """Guidance whose scale depends on how well each image's trajectory follows its condition.

    It keeps the last step. A timestep that is not smaller than that of the last step starts a new trajectory.

    Args:
        unguided: the noise predictor, the noise schedule and the grid of the sampler, each timestep called once.
        weight: w, which is added to the scale of the feedback.
        settings: see `FeedbackMethod`.
    """

    def __init__(self, unguided: Unguided, weight: float, settings: "FeedbackMethod") -> None:
        self.unguided, self.weight, self.settings = unguided, weight, settings
        self.offset, self.temperature = self._constants()
        self.last: _Last | None = None

    def __call__(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Return the guided noise, shaped like x_t. All images must be at the same timestep."""
        conditional, unconditional = two_halves(self.unguided.predictor, x_t, timesteps, conditions)
        t = int(timesteps[0])
        alpha, sigma = self.unguided.schedule.amounts(timesteps, x_t)
        scaled = x_t / alpha
        log_ratio = self._log_ratio(t, scaled)
        level = sigma / alpha
        self.last = _Last(t, scaled, scaled - level * conditional, scaled - level * unconditional, log_ratio)
        ratio = log_ratio.exp().view(-1, 1, 1, 1)
        scale = ratio / (ratio - (1 - self.settings.pi))
        return mixed(conditional, unconditional, self.weight + scale - 1)

    def _log_ratio(self, t: int, scaled: Tensor) -> Tensor:
        """Return log q of every image at timestep t, from where the last step has led, (B,)."""
        last, settings = self.last, self.settings
        lowest = math.log((1 - settings.pi) * settings.largest / (settings.largest - 1))
        if last is None or t >= last.t:
            return scaled.new_zeros(len(scaled)).clamp(lowest, HIGHEST)
        kept, variance = self._kernel(last.t, t)
        m_c, m_u = (kept * last.scaled + (1 - kept) * clean for clean in (last.conditional, last.unconditional))
        # |x_s - m_c|^2 - |x_s - m_u|^2, without the loss of digits of a difference of two large sums.
        further = ((m_u - m_c) * (2 * scaled - m_c - m_u)).sum(dim=(1, 2, 3))
        ratio: Tensor = last.log_ratio - self.temperature / (2 * variance) * further + self.offset
        return ratio.clamp(lowest, HIGHEST)

    def _level(self, t: int) -> float:
        """Return the squared noise level (sigma / alpha)^2."""
        schedule = self.unguided.schedule
        return float(schedule.sigma[t] / schedule.alpha[t]) ** 2

    def _kernel(self, t: int, s: int) -> tuple[float, float]:
        """Return the share of x_t in the mean of the backward kernel from t to s, and its variance."""
        here, there = self._level(t), self._level(s)
        return there / here, (here - there) * there / here

    def _constants(self) -> tuple[float, float]:
        """Return the offset and the temperature."""
        settings, grid = self.settings, self.unguided.grid
        offset = math.log(1.5 * (1 - settings.pi)) / ((1 - settings.start) * len(grid))
        # By the number of steps that follow; the last step, to the clean image, has none.
        variances = [0.0, *(self._kernel(t, s)[1] for t, s in pairwise(grid))]
        variances[1:] = variances[:0:-1]
        variance = np.interp(settings.full * len(grid), range(len(grid)), variances)
        return offset, 2 * float(variance) * abs(offset) / 10


@dataclass(frozen=True)
class FeedbackMethod:
    """`feedback`: feedback guidance.

    Args:
        pi: the share of the learned conditional distribution that is right, 0.34 to 1; smaller guides more.
        start: the share of the steps that remain when guidance starts, 0 to 0.95; t_0 in the source.
        full: the share that remains when the halves decide, 0.05 to 1; t_1 in the source.
        largest: the largest scale of the feedback, 1.05 to 100.
    """

    pi: float = 0.95
    start: float = 0.5
    full: float = 0.4
    largest: float = 10.0
    facts: ClassVar[Facts] = Facts()

    def __post_init__(self) -> None:
        require_range("guidance.method feedback:pi", self.pi, 0.34, 1)
        require_range("guidance.method feedback:start", self.start, 0, 0.95)
        require_range("guidance.method feedback:full", self.full, 0.05, 1)
        require_range("guidance.method feedback:largest", self.largest, 1.05, 100)

    def guide(self, unguided: Unguided, weight: float) -> NoisePredictor:
        """Return the noise predictor guided at weight w."""
        if self.pi == 1:
            return ClassifierFreeGuidance(unguided.predictor, weight)
        return Feedback(unguided, weight, self)
