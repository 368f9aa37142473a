"""What a method of guidance is: settings that make a guided noise predictor of a noise predictor."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from lab.data.labels import ClassVocabulary
from lab.diffusion.schedules import NoiseSchedule
from lab.types import NoisePredictor


@dataclass(frozen=True)
class Unguided:
    """What a method of guidance may need.

    Args:
        predictor: the noise predictor to guide.
        weaker: a weaker one, for methods that need it; elsewhere the same.
        schedule: the noise schedule both were trained on.
        grid: the timesteps that are sampled at, falling.
        vocabulary: the classes of the conditions.
    """

    predictor: NoisePredictor
    weaker: NoisePredictor
    schedule: NoiseSchedule
    grid: Sequence[int]
    vocabulary: ClassVocabulary


@dataclass(frozen=True)
class Facts:
    """What a method of guidance says of itself beside its equation.

    Args:
        weights: lowest and highest w that the method is defined for.
        samplers: kinds of sampler that it is defined for; empty for all. They must be deterministic.
        without_clamping: whether it is exact only where predicted clean images are not clamped.
        unconditional_at: the w at which nothing of the condition is left, or None if there is none.
        needs_weaker: whether it needs a weaker noise predictor.
        cost_depends_on_label_sets: whether label sets of another size cost more network evaluations.
    """

    weights: tuple[float, float] = (-1.0, math.inf)
    samplers: tuple[str, ...] = ()
    without_clamping: bool = False
    unconditional_at: float | None = None
    needs_weaker: bool = False
    cost_depends_on_label_sets: bool = False


@runtime_checkable
class GuidanceMethod(Protocol):
    """A method of guidance: a frozen dataclass of its settings, each with a default."""

    facts: ClassVar[Facts]

    def guide(self, unguided: Unguided, weight: float) -> NoisePredictor:
        """Return the noise predictor guided at weight w."""
        ...
