"""Checks of settings: ranges, types, and whether two sets of settings are the same."""

import math
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from lab.errors import LabError, nearest


def require_range(field: str, value: float, low: float, high: float = math.inf) -> None:
    """Raise LabError unless low <= value <= high and value is finite."""
    # In this order, because isfinite has no answer for whole numbers beyond the floats.
    if not (low <= value <= min(high, sys.float_info.max) and math.isfinite(value)):
        allowed = f"{low:g} or more" if math.isinf(high) else f"{low:g} to {high:g}"
        raise LabError(f"--{field.replace('_', '-')} is {value}; allowed is a finite number, {allowed}")


def require_types(config: object, prefix: str) -> None:
    """Raise LabError where a field holds anything but what it is declared as, as one read from a file may."""
    for name, hint in get_type_hints(type(config)).items():
        found = getattr(config, name)
        if not _is_a(found, hint):
            one_of = get_args(hint) if get_origin(hint) is Literal else ()
            near = nearest(str(found), map(str, one_of))
            allowed = f"one of {one_of}" if one_of else getattr(hint, "__name__", str(hint))
            raise LabError(f"--{prefix}.{name.replace('_', '-')} is {found!r:.80}{near}; allowed is {allowed}")


def _is_a(found: object, hint: Any) -> bool:
    """Tell whether a value is what a field is declared as; of hints that no field here has, nothing is asked."""
    if get_origin(hint) is Literal:
        return found in get_args(hint)
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        if not isinstance(found, tuple) or (inner[-1] is not ... and len(found) != len(inner)):
            return False
        return all(_is_a(each, inner[0]) for each in found)
    if hint in (int, bool, str):
        return type(found) is hint
    return hint is not float or (isinstance(found, int | float) and not isinstance(found, bool))


def require_same_settings(owner: Path, found: object, asked: dict[str, Any]) -> None:
    """Raise LabError, naming the first difference, unless the settings a file was made with are those asked for.

    Args:
        owner: the file.
        found: the settings it holds, nested dictionaries of primitives.
        asked: the settings of this run.
    """
    before, now = _flat(found), _flat(asked)
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            raise LabError(
                f"{owner} is of another configuration: {key or 'it'} is {before.get(key)} there, {now.get(key)} here\n"
                f"choose another --name, or delete {owner.parent} to start again"
            )


def _flat(settings: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(settings, dict):
        return {prefix: settings}
    flat: dict[str, object] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat
