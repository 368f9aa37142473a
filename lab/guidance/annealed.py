"""CADS, the condition-annealed sampler (Sadat et al. 2023, arXiv:2310.17347, equations 1 to 4): against collapse.

With u = t / (T - 1), which is 1 at pure noise, and gamma(u) = 1 up to `clean`, 0 from `noisy` on, linear in between:

    y_n = sqrt(gamma) y + noise sqrt(1 - gamma) n,  n ~ N(0, I)
    y_r = (y_n - mean(y_n)) / std(y_n) std(y) + mean(y)
    eps = (1 + w) eps(x_t, t, rescaled y_r + (1 - rescaled) y_n) - w eps_unconditional

n is drawn for each image and step; mean and std are over the classes of one row. The first steps see little of the
condition, so that images of one class begin differently even where a high w would make them alike. The null condition
stays as it is, and so does the condition of an image without a class. Neutral: clean = 1.

The source adds noise to the embedding of the condition, here it is added to the row that the network embeds. So the
network must take rows of any numbers, which those with a number for a class or a token for a class do not.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from lab.configuration.checks import require_range
from lab.errors import LabError
from lab.guidance.classifier_free import ClassifierFreeGuidance
from lab.guidance.method import Facts, Unguided
from lab.types import Conditions, Images, NoisePredictor, Timesteps


@dataclass(frozen=True)
class Annealed:
    """Classifier-free guidance with noise on the condition while images are noisy.

    Args:
        unguided: the noise predictor, the noise schedule and the images' random numbers.
        weight: w.
        settings: see `AnnealedMethod`.
    """

    unguided: Unguided
    weight: float
    settings: "AnnealedMethod"

    def __call__(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Return the guided noise, shaped like x_t. All images must be at the same timestep."""
        guided = ClassifierFreeGuidance(self.unguided.predictor, self.weight)
        t = int(timesteps[0])
        gamma = self.settings.gamma(t / (self.unguided.schedule.timesteps - 1))
        return guided(x_t, timesteps, conditions if gamma == 1 else self._noised(conditions, t, gamma))

    def _noised(self, conditions: Conditions, t: int, gamma: float) -> Conditions:
        """Return the conditions with noise, those of no class as they are."""
        classes, settings = conditions.shape[1], self.settings
        normal = self.unguided.randomness.draw(t, lambda generator: torch.randn(classes, generator=generator))
        noised = math.sqrt(gamma) * conditions + settings.noise * math.sqrt(1 - gamma) * normal.to(conditions)
        spread, mean = torch.std_mean(conditions, dim=1, correction=0, keepdim=True)
        its_spread, its_mean = torch.std_mean(noised, dim=1, correction=0, keepdim=True)
        rescaled = (noised - its_mean) / its_spread.clamp_min(1e-12) * spread + mean
        mixed = settings.rescaled * rescaled + (1 - settings.rescaled) * noised
        return torch.where(conditions.any(dim=1, keepdim=True), mixed, conditions)


@dataclass(frozen=True)
class AnnealedMethod:
    """`annealed`: CADS.

    Args:
        clean: the share of the timesteps below which the condition has no noise, 0 to 1; tau_1 in the source.
        noisy: the share above which the condition is noise alone, from `clean` to 1; tau_2 in the source.
        noise: the standard deviation of the noise, 0 to 10; s in the source.
        rescaled: the share of the condition that keeps the mean and spread of the clean one, 0 to 1; psi in the source.
    """

    clean: float = 0.5
    noisy: float = 0.9
    noise: float = 0.15
    rescaled: float = 1.0
    facts: ClassVar[Facts] = Facts(unconditional_at=-1.0, noises_conditions=True)

    def __post_init__(self) -> None:
        require_range("guidance.method annealed:clean", self.clean, 0, 1)
        require_range("guidance.method annealed:noise", self.noise, 0, 10)
        require_range("guidance.method annealed:rescaled", self.rescaled, 0, 1)
        if not self.clean <= self.noisy <= 1 and self.clean != 1:
            raise LabError(
                f"--guidance.method annealed has clean={self.clean:g},noisy={self.noisy:g}; they must be clean <= "
                f"noisy <= 1"
            )

    def gamma(self, u: float) -> float:
        """Return the share of the condition that is left at u, from 0 to 1."""
        if u <= self.clean:
            return 1.0
        return 0.0 if u >= self.noisy else (self.noisy - u) / (self.noisy - self.clean)

    def guide(self, unguided: Unguided, weight: float) -> NoisePredictor:
        """Return the noise predictor guided at weight w."""
        return Annealed(unguided, weight, self)
