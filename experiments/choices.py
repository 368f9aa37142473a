"""Choices of a kind on the command line and in ablations: `--sampler.kind ddim` gives DDIM's settings their flags.

Importing this does not import torch.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeVar, get_args

from experiments.configuration import Changes, Experiment
from lab.configuration.diffusion import SamplerChoice, ScheduleChoice
from lab.configuration.kinds import changed_kind, class_of_kind

Command = TypeVar("Command")

CHOICES: dict[str, tuple[type, ...]] = {"schedule": get_args(ScheduleChoice), "sampler": get_args(SamplerChoice)}
"""The sections of an experiment that have kinds, and the settings class of each."""


def with_chosen_kinds(command: Command, arguments: Sequence[str]) -> Command:
    """Return a command's settings with the kinds that its command line names.

    Settings that both kinds have keep their value.

    Args:
        command: an `Experiment`, or the settings of another command that have such sections.
        arguments: its command line.

    Raises:
        LabError: there is no such kind.
    """
    words = [word for argument in arguments for word in argument.split("=", 1)]
    for section, classes in CHOICES.items():
        if not hasattr(command, section):
            continue
        flag = f"--{section}.kind"
        for word, kind in pairwise(words):
            if word == flag:
                to = class_of_kind(classes, kind, flag)
                command = replace(command, **{section: changed_kind(getattr(command, section), to)})  # type: ignore[type-var]  # a dataclass
    return command


def with_changes(experiment: Experiment, changes: Changes) -> Experiment:
    """Return the experiment with some settings of its sections changed; a changed kind comes first."""
    sections: dict[str, Any] = {}
    for section, values in changes.items():
        settings = getattr(experiment, section)
        if section in CHOICES and "kind" in values:
            kind = class_of_kind(CHOICES[section], values["kind"], f"{section}.kind")
            settings = changed_kind(settings, kind)
        sections[section] = replace(settings, **values)
    return replace(experiment, **sections)
