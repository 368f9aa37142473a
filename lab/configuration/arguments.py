"""Parses command lines into frozen dataclasses, for every command of the lab.

The shell expands `~` only at the start of a word and leaves `--out=~/x` unchanged, so this file expands it in every
path.

Importing this does not import torch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from lab.errors import LabError

Settings = TypeVar("Settings")

PATHS = ConstructorRegistry()
"""The conversion of arguments to paths, for every dataclass."""


def expanded(argument: str) -> Path:
    """Return the path of an argument, with `~` or `~user` at its start replaced by the home folder.

    Raises:
        LabError: the user does not exist.
    """
    if not argument.startswith("~"):
        return Path(argument)  # "./~x" is not a home folder; Path makes it "~x"
    try:
        return Path(argument).expanduser()
    except RuntimeError:
        user = Path(argument).parts[0]
        raise LabError(
            f"{argument}: there is no user {user.removeprefix('~')!r}; for a folder named {user}, write ./{user}"
        ) from None


@PATHS.primitive_rule
def _path_rule(type_info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Path] | None:
    if type_info.type is not Path:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda arguments: expanded(arguments[0]),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda path: [str(path)],
    )


def parsed(
    settings: type[Settings],
    arguments: Sequence[str],
    prog: str,
    description: str | None,
    default: Any = tyro.MISSING_NONPROP,
) -> Settings:
    """Parse a command line into settings.

    Args:
        settings: the frozen dataclass.
        arguments: the arguments of the command, without its name.
        prog: the name of the command, for its help.
        description: the description of the command, for its help.
        default: the settings for arguments that are not given.

    Raises:
        LabError: a path names the home folder of an unknown user, or the dataclass rejects a value.
        SystemExit: the command line has `--help`, or an argument is unknown or malformed.
    """
    parsed_settings: Settings = tyro.cli(
        settings,
        args=list(arguments),
        prog=prog,
        description=description,
        default=default,
        registry=PATHS,
        # The default chooses the class of settings that have several kinds.
        config=(tyro.conf.AvoidSubcommands,),
    )
    return parsed_settings
