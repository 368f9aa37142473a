"""The methods of guidance by name, and the settings each of them has."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from lab.configuration.guidance import GUIDANCE_SETTINGS, GuidanceConfig
from lab.data.labels import ClassVocabulary
from lab.diffusion.schedules import NoiseSchedule
from lab.guidance.autoguidance import Autoguidance
from lab.guidance.classifier_free import ClassifierFreeGuidance
from lab.guidance.composed import Composed
from lab.guidance.limited_interval import LimitedInterval
from lab.guidance.plus_plus import PlusPlus
from lab.guidance.projected import Projected
from lab.guidance.rescale import Rescale
from lab.guidance.weight_schedule import WeightSchedule
from lab.types import NoisePredictor


@dataclass(frozen=True)
class Guided:
    """What a method of guidance may need to know.

    Args:
        predictor: the noise predictor to guide.
        weak: a weaker one, for autoguidance.
        schedule: the noise schedule both were trained on.
        grid: the timesteps that are sampled at, falling.
        vocabulary: the classes of the conditions.
    """

    predictor: NoisePredictor
    weak: NoisePredictor
    schedule: NoiseSchedule
    grid: Sequence[int]
    vocabulary: ClassVocabulary


Settings = Mapping[str, Any]

METHODS: dict[str, Callable[[Guided, float, Settings], NoisePredictor]] = {
    "plain": lambda to, weight, _: ClassifierFreeGuidance(to.predictor, weight),
    "interval": lambda to, weight, settings: LimitedInterval(
        to.predictor, weight, settings["interval_low"], settings["interval_high"], to.schedule
    ),
    "schedule": lambda to, weight, settings: WeightSchedule(
        to.predictor, weight, settings["weight_shape"], settings["smallest_weight"], to.schedule.timesteps
    ),
    "rescale": lambda to, weight, settings: Rescale(to.predictor, weight, settings["phi"]),
    "projected": lambda to, weight, settings: Projected(
        to.predictor, weight, settings["eta"], settings["momentum"], settings["largest_norm"], to.schedule
    ),
    "plus_plus": lambda to, weight, _: PlusPlus(to.predictor, weight, to.schedule, to.grid),
    "auto": lambda to, weight, _: Autoguidance(to.predictor, to.weak, weight),
    "composed": lambda to, weight, settings: Composed(
        to.predictor, weight, _avoided(to.vocabulary, settings["avoid"]), settings["avoided_scale"]
    ),
}


def guided(method: str, weight: float, settings: Settings, to: Guided) -> NoisePredictor:
    """Return a noise predictor guided by this method at this weight."""
    return METHODS[method](to, weight, settings)


def settings_of(method: str, config: GuidanceConfig) -> dict[str, Any]:
    """Return those fields of the configuration that a method uses."""
    return {name: asdict(config)[name] for name in GUIDANCE_SETTINGS[method]}


def _avoided(vocabulary: ClassVocabulary, names: Sequence[str]) -> torch.Tensor:
    return vocabulary.conditions([tuple(names)])[0] > 0 if names else torch.zeros(len(vocabulary), dtype=torch.bool)
