"""Checks of settings: ranges, types, and whether two sets of settings are the same."""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from lab.errors import LabError, nearest

CAUSES = {
    "data.evaluator_share": "--evaluator.weights changes it, since the generator gets what no evaluator is trained on; "
}
"""What else changes a setting than the option of its name, said where it differs."""


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


def as_primitives(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by name, classes of settings among them, as nested dictionaries that a file can hold."""
    plain = {name: asdict(value) if is_dataclass(value) else value for name, value in settings.items()}  # type: ignore[arg-type]  # an instance
    return dict(json.loads(json.dumps(plain, default=Path.as_posix)))


def require_same_settings(owner: Path, stored: object, now: Mapping[str, Any]) -> None:
    """Raise LabError, naming the first difference, unless a file was made with the settings of this run.

    Stored settings are read through today's classes: a field that the file lacks had its default when it was written.

    Args:
        owner: the file.
        stored: the settings it holds, as `as_primitives` returns them.
        now: the settings of this run by name: classes of settings, or primitives.
    """
    defaults = as_primitives({name: _defaults(value) for name, value in now.items() if is_dataclass(value)})
    before, today = _flat(defaults) | _flat(stored), _flat(as_primitives(now))
    # What kind it is decides which other fields there are.
    for key in sorted(before.keys() | today.keys(), key=lambda key: (not key.endswith(".kind"), key)):
        if before.get(key) != today.get(key):
            raise LabError(
                f"{owner} is of another configuration: "
                f"{key or 'it'} is {before.get(key)!s:.80} there, {today.get(key)!s:.80} here\n"
                f"{CAUSES.get(key, '')}choose another --name, or delete {owner.parent} to start again"
            )


def _defaults(settings: Any) -> dict[str, Any]:
    return {one.name: one.default for one in fields(settings) if one.default is not MISSING}


def _flat(settings: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(settings, dict):
        return {prefix: settings}
    flat: dict[str, object] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat
