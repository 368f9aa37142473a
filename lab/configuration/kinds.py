"""Kinds: settings with one class per choice, identified by the field `kind`.

The noise schedule, the sampler and the denoiser are each chosen by kind. Each kind has a settings class with only the
fields that it uses, so a setting of another kind is an error.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any, get_origin, get_type_hints

from lab.errors import LabError, nearest


def by_kind(classes: Iterable[type]) -> dict[str, type]:
    """Return a dictionary from kind to settings class."""
    return {str(one.kind): one for one in classes}  # type: ignore[attr-defined]  # each has the field


def class_of_kind(classes: Iterable[type], kind: object, flag: str) -> type:
    """Return the settings class of this kind.

    Args:
        classes: the settings classes to choose from.
        kind: the kind.
        flag: the source of the kind for the message: a flag like "--sampler.kind", or a file.

    Raises:
        LabError: the kind does not exist; the message lists all kinds and suggests the nearest one.
    """
    named = by_kind(classes)
    if not isinstance(kind, str) or kind not in named:
        raise LabError(f"{flag} is {kind!r}; choose from {', '.join(named)}{nearest(str(kind), named)}")
    return named[kind]


def changed_kind(settings: Any, to: type) -> Any:
    """Convert settings to another kind, keeping the values of the fields that both kinds have."""
    shared = {one.name for one in fields(to)} & {one.name for one in fields(settings)} - {"kind"}
    return to(**{name: getattr(settings, name) for name in shared})


def read_settings(one: type, stored: object) -> Any:
    """Read settings that a file stores as primitives. A missing field gets its default.

    Raises:
        LabError: the stored value is not a mapping, has a field that the class lacks, or has a value out of range.
    """
    if not isinstance(stored, Mapping):
        raise LabError(f"{one.__name__} is stored as {type(stored).__name__}; it must be a mapping")
    hints = get_type_hints(one)
    if unknown := [name for name in stored if name not in hints]:
        raise LabError(f"{one.__name__} has no setting {unknown[0]!r}; another version of the lab may have written it")
    # JSON stores tuples as lists.
    values = {name: tuple(value) if get_origin(hints[name]) is tuple else value for name, value in stored.items()}
    return one(**values)


def read_kind(classes: Iterable[type], stored: object, place: str) -> Any:
    """Read settings of the kind that a file names; see `read_settings`."""
    kind = stored.get("kind") if isinstance(stored, Mapping) else stored
    return read_settings(class_of_kind(classes, kind, place), stored)


def changes_from_default(settings: Any) -> dict[str, Any]:
    """Return the fields that differ from their defaults as primitives, and the kind if the class has one.

    A field that is added later does not change the result while it has its default.
    """
    defaults = {one.name: one.default for one in fields(settings)}
    return {name: value for name, value in asdict(settings).items() if name == "kind" or value != defaults[name]}
