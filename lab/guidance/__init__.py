"""Guidance: noise predictors made of a noise predictor, one file a method.

Every method has a weight w and, at its neutral settings, is plain classifier-free guidance at that weight, exactly.
"""

from lab.guidance.autoguidance import Autoguidance
from lab.guidance.classifier_free import ClassifierFreeGuidance
from lab.guidance.composed import Composed
from lab.guidance.evaluation_counter import EvaluationCounter
from lab.guidance.limited_interval import LimitedInterval
from lab.guidance.methods import METHODS, Guided, guided, settings_of
from lab.guidance.plus_plus import PlusPlus
from lab.guidance.projected import Projected
from lab.guidance.rescale import Rescale
from lab.guidance.weight_schedule import WEIGHT_SHAPES, WeightSchedule

__all__ = [
    "METHODS",
    "WEIGHT_SHAPES",
    "Autoguidance",
    "ClassifierFreeGuidance",
    "Composed",
    "EvaluationCounter",
    "Guided",
    "LimitedInterval",
    "PlusPlus",
    "Projected",
    "Rescale",
    "WeightSchedule",
    "guided",
    "settings_of",
]
