"""Kinds on the command line and in ablations: `--sampler.kind ddim` adds the flags of DDIM's settings.

Importing this module does not import torch.
"""

from collections.abc import Sequence
from dataclasses import field, make_dataclass, replace
from itertools import pairwise
from typing import Any, TypeVar, get_args, get_type_hints

from experiments.configuration import Changes, Experiment
from experiments.unconditional.configuration import UnconditionalExperiment
from lab.configuration.diffusion import SamplerChoice, ScheduleChoice
from lab.configuration.kinds import changed_kind, class_of_kind
from lab.configuration.networks import DenoiserChoice

CHOICES: dict[str, tuple[type, ...]] = {
    "denoiser": get_args(DenoiserChoice),
    "schedule": get_args(ScheduleChoice),
    "sampler": get_args(SamplerChoice),
}
"""The sections of an experiment that have kinds, and the settings classes of their kinds."""


def chosen_kinds(arguments: Sequence[str]) -> dict[str, type]:
    """Return the settings classes chosen on a command line, by section: `--sampler.kind ddim` chooses DDIM's.

    Raises:
        LabError: the kind does not exist.
    """
    words = [word for argument in arguments for word in argument.split("=", 1)]
    flags = {f"--{section}.kind": section for section in CHOICES}
    return {
        flags[word]: class_of_kind(CHOICES[flags[word]], kind, word) for word, kind in pairwise(words) if word in flags
    }


AnyExperiment = TypeVar("AnyExperiment", bound=Experiment | UnconditionalExperiment)


def with_chosen_kinds(experiment: AnyExperiment, arguments: Sequence[str]) -> AnyExperiment:
    """Return an experiment with the kinds chosen on its command line; settings common to both kinds keep their values.

    Raises:
        LabError: the kind does not exist.
    """
    sections = {
        section: changed_kind(getattr(experiment, section), to) for section, to in chosen_kinds(arguments).items()
    }
    return replace(experiment, **sections)


def class_with_chosen_kinds(command: type, arguments: Sequence[str]) -> type:
    """Return a command's settings class with the kinds chosen on its command line as defaults.

    Raises:
        LabError: the kind does not exist.
    """
    own = get_type_hints(command)
    sections = {section: to for section, to in chosen_kinds(arguments).items() if section in own}
    if not sections:
        return command
    changed = [(section, own[section], field(default_factory=to)) for section, to in sections.items()]
    return make_dataclass(command.__name__, changed, bases=(command,), frozen=True)


def with_changes(experiment: Experiment, changes: Changes) -> Experiment:
    """Return the experiment with some settings of its sections changed; kinds change before other settings."""
    sections: dict[str, Any] = {}
    for section, values in changes.items():
        settings = getattr(experiment, section)
        if section in CHOICES and "kind" in values:
            kind = class_of_kind(CHOICES[section], values["kind"], f"{section}.kind")
            settings = changed_kind(settings, kind)
        sections[section] = replace(settings, **values)
    return replace(experiment, **sections)
