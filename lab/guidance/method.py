"""The protocol of a guidance method: settings that turn a noise predictor into a guided one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

from lab.data.labels import ClassVocabulary
from lab.diffusion.noise_source import StepRandomness
from lab.diffusion.schedules import NoiseSchedule
from lab.types import ImageClassifier, NoisePredictor


@dataclass(frozen=True)
class Unguided:
    """The inputs of a guidance method.

    Args:
        predictor: the noise predictor to guide.
        weaker: a weaker noise predictor, for methods that need one; otherwise `predictor` again.
        schedule: the noise schedule that both were trained on.
        grid: the timesteps of the sampler, in falling order.
        vocabulary: the classes of the conditions.
        randomness: the random numbers of the batch's images, for methods that draw some.
        prediction: what the network's output is, noise, x_0 or v; see `lab.diffusion.objectives`.
        classifiers: those that may guide, by name; none if no method needs one.
    """

    predictor: NoisePredictor
    weaker: NoisePredictor
    schedule: NoiseSchedule
    grid: Sequence[int]
    vocabulary: ClassVocabulary
    randomness: StepRandomness = field(default_factory=StepRandomness)
    prediction: str = "noise"
    classifiers: Mapping[str, ImageClassifier] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """The properties that a guidance method declares.

    Args:
        weights: the lowest and highest w that the method is defined for.
        samplers: the kinds of sampler it is defined for, which must be deterministic; empty means all samplers.
        without_clamping: whether it is exact only if predicted clean images are not clamped.
        unconditional_at: the w at which the condition has no effect, or None.
        needs_weaker: whether it needs a weaker noise predictor.
        for_students: whether it is for students, which take w as an input; all others are for other networks.
        noises_conditions: whether it gives the network conditions of other numbers than 0 and 1.
        cost_depends_on_label_sets: whether the number of network evaluations depends on the size of the label sets.
    """

    weights: tuple[float, float] = (-1.0, math.inf)
    samplers: tuple[str, ...] = ()
    without_clamping: bool = False
    unconditional_at: float | None = None
    needs_weaker: bool = False
    for_students: bool = False
    noises_conditions: bool = False
    cost_depends_on_label_sets: bool = False


@runtime_checkable
class GuidanceMethod(Protocol):
    """A guidance method: a frozen dataclass of settings, each with a default."""

    facts: ClassVar[Facts]

    def guide(self, unguided: Unguided, weight: float) -> NoisePredictor:
        """Return the noise predictor guided at weight w."""
        ...


def guided_by(method: GuidanceMethod) -> str:
    """Return the name of the classifier that a method is guided by, its `guided_by`, or "" if it needs none."""
    return str(getattr(method, "guided_by", ""))
