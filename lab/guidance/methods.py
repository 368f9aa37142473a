"""The guidance methods by name, and the syntax that names a method and its settings.

plain                               a method at its default settings
interval:low=0.1,high=2             a method with settings
composed:avoid=red cube,avoid=7     a setting that takes a list: repeat it for each value
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, get_origin, get_type_hints

from lab.configuration.diffusion import SamplerConfig
from lab.configuration.kinds import changes_from_default
from lab.errors import LabError, nearest
from lab.guidance.annealed import AnnealedMethod
from lab.guidance.autoguidance import AutoMethod
from lab.guidance.classifier import ClassifierMethod
from lab.guidance.classifier_free import PlainMethod
from lab.guidance.composed import ComposedMethod
from lab.guidance.distilled import DistilledMethod
from lab.guidance.dynamic import DynamicMethod
from lab.guidance.feedback import FeedbackMethod
from lab.guidance.independent import IndependentMethod
from lab.guidance.limited_interval import IntervalMethod
from lab.guidance.magnitude import MagnitudeMethod
from lab.guidance.method import GuidanceMethod
from lab.guidance.plus_plus import PlusPlusMethod
from lab.guidance.projected import ProjectedMethod
from lab.guidance.rescale import RescaleMethod
from lab.guidance.tangential import TangentialMethod
from lab.guidance.timestep import TimestepMethod
from lab.guidance.weight_schedule import ScheduleMethod
from lab.guidance.zero_star import ZeroStarMethod

METHODS: dict[str, type[GuidanceMethod]] = {
    "plain": PlainMethod,
    "interval": IntervalMethod,
    "schedule": ScheduleMethod,
    "rescale": RescaleMethod,
    "projected": ProjectedMethod,
    "zero_star": ZeroStarMethod,
    "tangential": TangentialMethod,
    "magnitude": MagnitudeMethod,
    "plus_plus": PlusPlusMethod,
    "feedback": FeedbackMethod,
    "annealed": AnnealedMethod,
    "independent": IndependentMethod,
    "timestep": TimestepMethod,
    "auto": AutoMethod,
    "composed": ComposedMethod,
    "classifier": ClassifierMethod,
    "dynamic": DynamicMethod,
    "distilled": DistilledMethod,
}
"""The settings class of each method."""


@dataclass(frozen=True)
class NamedMethod:
    """A guidance method and its name.

    Args:
        name: the key in `METHODS`.
        method: the settings.
    """

    name: str
    method: GuidanceMethod

    @property
    def label(self) -> str:
        """The method's name and the settings that differ from their defaults, like "interval:low=0.1"."""
        parts = [
            f"{name}={each:g}" if isinstance(each, float) else f"{name}={each}"
            for name, value in changes_from_default(self.method).items()
            for each in (value if isinstance(value, tuple) else (value,))
        ]
        return self.name + (f":{','.join(parts)}" if parts else "")

    def require_sampler(self, sampler: SamplerConfig) -> None:
        """Raise LabError unless the method is defined for this sampler."""
        allowed = self.method.facts.samplers
        if allowed and (sampler.kind not in allowed or getattr(sampler, "eta", 0.0) != 0):
            raise LabError(
                f"--guidance.method {self.name} needs deterministic {' or '.join(allowed)}, not "
                f"{sampler.kind}{' with eta' if sampler.kind in allowed else ''}; add --sampler.kind {allowed[0]}"
            )

    def problems(self, weights: Sequence[float], sampler: SamplerConfig) -> str:
        """Return in words how these weights or this sampler exceed what the method is defined for, or nothing."""
        low, high = self.method.facts.weights
        beyond = [f"w = {weight:g}" for weight in weights if not low <= weight <= high]
        clamped = self.method.facts.without_clamping and getattr(sampler, "clamp", False)
        defined = f"of {low:g} or more" if math.isinf(high) else f"from {low:g} to {high:g}"
        problems = [
            *([f"it is defined for w {defined}, not for {', '.join(beyond)}"] if beyond else []),
            *(["it is exact only without clamping (--sampler.no-clamp)"] if clamped else []),
        ]
        return "; ".join(problems)


def named_method(text: str) -> NamedMethod:
    """Parse a method and its settings, like "interval:low=0.1,high=2".

    Raises:
        LabError: the method or a setting does not exist, or a value has the wrong type or is out of range.
    """
    name, _, settings = text.partition(":")
    flag = f"--guidance.method {text}"
    if name not in METHODS:
        raise LabError(f"{flag}: no method {name!r}; choose from {', '.join(METHODS)}{nearest(name, METHODS)}")
    hints = get_type_hints(METHODS[name])
    allowed = [one.name for one in fields(METHODS[name])]  # type: ignore[arg-type]  # each is a dataclass
    values: dict[str, Any] = {}
    for part in settings.split(",") if settings else ():
        key, equals, value = part.partition("=")
        key = key.strip().replace("-", "_")
        if key not in allowed or not equals:
            choices = f"choose from {', '.join(f'{one}=...' for one in allowed)}" if allowed else "it has no settings"
            raise LabError(f"{flag}: no setting {part!r}; {choices}{nearest(key, allowed)}")
        if get_origin(hints[key]) is tuple:
            values[key] = (*values.get(key, ()), value)
        elif key in values:
            raise LabError(f"{flag}: {key} is given twice")
        else:
            try:
                values[key] = hints[key](value)
            except ValueError:
                kind = "whole " if hints[key] is int else ""
                raise LabError(f"{flag}: {key} is {value!r}; it must be a {kind}number") from None
    return NamedMethod(name, METHODS[name](**values))


def named_methods(texts: Sequence[str]) -> list[NamedMethod]:
    """Parse several methods, in order.

    Raises:
        LabError: as `named_method`, or a method appears twice with the same settings.
    """
    methods = [named_method(text) for text in texts]
    labels = [method.label for method in methods]
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise LabError(f"--guidance.method has {twice[0]} twice; give each method with the same settings once")
    return methods
