"""Checks of settings: ranges, types, names, and the equality of stored and current settings."""

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from lab.errors import LabError, nearest

CAUSES = {
    "data.evaluator_share": "--evaluator.weights changes it, because the generator then gets the evaluator's images; "
}
"""Options that change a setting of another name. The error adds them when that setting differs."""


def require_range(field: str, value: float, low: float, high: float = math.inf) -> None:
    """Raise LabError unless low <= value <= high and value is finite."""
    # In this order, because isfinite fails for integers beyond the range of floats.
    if not (low <= value <= min(high, sys.float_info.max) and math.isfinite(value)):
        allowed = f"finite and at least {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
        raise LabError(f"--{field.replace('_', '-')} is {value}; it must be {allowed}")


def require_ema_lengths(field: str, lengths: Sequence[float]) -> None:
    """Raise LabError unless power-function profiles have these lengths, each given once."""
    for length in lengths:
        # Longer than uniform averaging, 12^(-1/2), has no profile; one of 0.28 is almost uniform.
        require_range(field, length, 0.005, 0.28)
        if lengths.count(length) > 1:
            raise LabError(f"--{field.replace('_', '-')} has {length:g} twice; give each length once")


def require_name(flag: str, name: str) -> None:
    """Raise LabError unless a name can be that of a folder in checkpoints/ and reports/."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise LabError(f"--{flag} is {name!r}; it may have up to 100 letters, digits, '.', '_' and '-'")


def require_types(config: object, prefix: str) -> None:
    """Raise LabError if a field's value does not have the declared type, which can happen when a file is read."""
    for name, hint in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if not _is_a(value, hint):
            one_of = get_args(hint) if get_origin(hint) is Literal else ()
            near = nearest(str(value), map(str, one_of))
            allowed = f"one of {one_of}" if one_of else f"of type {getattr(hint, '__name__', str(hint))}"
            raise LabError(f"--{prefix}.{name.replace('_', '-')} is {value!r:.80}; it must be {allowed}{near}")


def _is_a(value: object, hint: Any) -> bool:
    """Whether a value has the type of a hint. Hints that no field of settings uses accept every value."""
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        if not isinstance(value, tuple) or (inner[-1] is not ... and len(value) != len(inner)):
            return False
        return all(_is_a(each, inner[0]) for each in value)
    if hint in (int, bool, str):
        return type(value) is hint
    return hint is not float or (isinstance(value, int | float) and not isinstance(value, bool))


def as_primitives(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Convert settings by name, which may be settings classes, to nested dictionaries of JSON's types."""
    plain = {name: asdict(value) if is_dataclass(value) else value for name, value in settings.items()}  # type: ignore[arg-type]  # an instance
    return dict(json.loads(json.dumps(plain, default=Path.as_posix)))


def require_same_settings(owner: Path, stored: object, now: Mapping[str, Any]) -> None:
    """Raise LabError, naming the first difference, unless a file was made with the settings of this run.

    Stored settings are read through the current classes: a field that the file lacks has its default.

    Args:
        owner: the file.
        stored: the settings in the file, as `as_primitives` returns them.
        now: the settings of this run by name: settings classes or primitives.
    """
    defaults = as_primitives({name: _defaults(value) for name, value in now.items() if is_dataclass(value)})
    before, today = _flat(defaults) | _flat(stored), _flat(as_primitives(now))
    # Compare kinds first, because the kind determines the other fields.
    for key in sorted(before.keys() | today.keys(), key=lambda key: (not key.endswith(".kind"), key)):
        if before.get(key) != today.get(key):
            raise LabError(
                f"{owner} was made with other settings: "
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
