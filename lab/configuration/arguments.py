"""Command lines made into frozen dataclasses; every command of the lab reads its arguments here.

The shell expands `~` only at the beginning of a word: it hands on `--out=~/x` as it is. So every path expands it here.

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
"""How an argument becomes a path, in every dataclass."""


def expanded(argument: str) -> Path:
    """Return the path that an argument names, with `~` and `~user` at its beginning replaced by that home folder.

    Raises:
        LabError: there is no such user.
    """
    if not argument.startswith("~"):
        return Path(argument)  # "./~x" is no home folder, but is the path "~x" from here on
    try:
        return Path(argument).expanduser()
    except RuntimeError:
        user = Path(argument).parts[0]
        raise LabError(
            f"{argument}: {user} is the home folder of no user; for a folder of that name, write ./{user}"
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
    """Return the settings that a command line asks for.

    Args:
        settings: the frozen dataclass.
        arguments: of the command, without its name.
        prog: the command's name, for its help.
        description: what it does, for its help.
        default: settings that hold where an argument is not given.

    Raises:
        LabError: a path names the home folder of nobody, or the dataclass refuses a value.
        SystemExit: `--help`, or an argument is unknown or malformed.
    """
    found: Settings = tyro.cli(
        settings,
        args=list(arguments),
        prog=prog,
        description=description,
        default=default,
        registry=PATHS,
        # Of settings that are one class of several, the default says which.
        config=(tyro.conf.AvoidSubcommands,),
    )
    return found
