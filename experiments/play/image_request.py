"""An image request: what the page requests, one image, whose settings are checked as on the command line."""

import json
from dataclasses import dataclass
from typing import Any

from experiments.sampling import require_weight_and_seed
from lab.configuration.checks import require_range
from lab.configuration.diffusion import SamplerConfig
from lab.configuration.kinds import read_kind
from lab.data.labels import ClassVocabulary, LabelSet
from lab.diffusion.samplers import SAMPLERS
from lab.errors import LabError
from lab.guidance.methods import NamedMethod, named_method

MOST_STEPS = 1000
"""Sampling steps of one image."""
SETTINGS: dict[str, tuple[type, ...]] = {
    "label_set": (list,),
    "guidance_weight": (int, float),
    "method": (str,),
    "sampler": (dict,),
    "seed": (int,),
}
"""The settings of one image, and the types that JSON may give them."""


@dataclass(frozen=True)
class ImageRequest:
    """One image.

    Args:
        label_set: its classes; none for an unconditional image.
        guidance_weight: w.
        guidance: the method of guidance.
        sampler: the sampler.
        seed: of the noise. The image is the first one that `sample --ask` gives at the same settings.
    """

    label_set: LabelSet
    guidance_weight: float
    guidance: NamedMethod
    sampler: SamplerConfig
    seed: int

    def __post_init__(self) -> None:
        require_weight_and_seed(self.guidance_weight, self.seed)
        require_range("sampler.sampling_steps", self.sampler.sampling_steps, 1, MOST_STEPS)
        if not self.label_set and self.guidance_weight not in (-1, 0):
            raise LabError(
                f"no class is chosen, so w = {self.guidance_weight:g} has no condition to guide towards; choose a "
                f"class, or w = -1 or 0"
            )


def read_request(content: bytes, vocabulary: ClassVocabulary) -> ImageRequest:
    """Read what the page requests.

    Args:
        content: a JSON object of `SETTINGS`.
        vocabulary: the classes of the checkpoint.

    Raises:
        LabError: it is no such object, or a value is not allowed.
    """
    try:
        settings = json.loads(content)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        settings = None
    if not isinstance(settings, dict) or settings.keys() != SETTINGS.keys():
        raise LabError(f"the request must be a JSON object of {', '.join(SETTINGS)}")
    for name, types in SETTINGS.items():
        _require_type(name, settings[name], types)
    for name, value in settings["sampler"].items():
        if value is None:  # an empty field of the page
            raise LabError(f"--sampler.{name.replace('_', '-')} is empty; give it a value")
    return ImageRequest(
        label_set=_label_set(settings["label_set"], vocabulary),
        guidance_weight=settings["guidance_weight"],
        guidance=named_method(settings["method"]),
        sampler=read_kind(SAMPLERS, settings["sampler"], "--sampler.kind"),
        seed=settings["seed"],
    )


def _require_type(name: str, value: object, types: tuple[type, ...]) -> None:
    if type(value) not in types:
        kinds = {list: "a list", float: "a number", str: "text", dict: "an object", int: "a whole number"}
        shown = "empty" if value is None else f"{value!r:.80}"
        raise LabError(f"--{name.replace('_', '-')} is {shown}; it must be {kinds[types[-1]]}")


def _label_set(names: list[Any], vocabulary: ClassVocabulary) -> LabelSet:
    for name in names:
        if not isinstance(name, str):
            raise LabError(f"a class is {name!r:.80}; it must be a class name")
        vocabulary.index(name)
        if names.count(name) > 1:
            raise LabError(f"class {name!r} occurs twice; name each class once")
    return tuple(names)
