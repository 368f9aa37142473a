"""Kinds: settings that are one class of several, told apart by their field `kind`.

A noise schedule, a sampler and a denoiser are each chosen by kind, and each kind has a settings class with only the
fields it uses. So a setting that a choice does not have cannot be given to it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any, get_origin, get_type_hints

from lab.errors import LabError, nearest


def by_kind(classes: Iterable[type]) -> dict[str, type]:
    """Return settings classes by their kind."""
    return {str(one.kind): one for one in classes}  # type: ignore[attr-defined]  # each has the field


def class_of_kind(classes: Iterable[type], kind: object, flag: str) -> type:
    """Return the settings class of this kind.

    Args:
        classes: the choices.
        kind: the one wanted.
        flag: where the user names it, like "--sampler.kind", or a file.

    Raises:
        LabError: there is no such kind; the message has the nearest one and all of them.
    """
    named = by_kind(classes)
    if not isinstance(kind, str) or kind not in named:
        raise LabError(f"{flag} is {kind!r}{nearest(str(kind), named)}; allowed are {', '.join(named)}")
    return named[kind]


def changed_kind(settings: Any, to: type) -> Any:
    """Return settings of another kind that keep the values of the fields both kinds have."""
    shared = {one.name for one in fields(to)} & {one.name for one in fields(settings)} - {"kind"}
    return to(**{name: getattr(settings, name) for name in shared})


def read_settings(one: type, stored: object) -> Any:
    """Return settings that a file holds as primitives; a field that the file lacks has its default.

    Raises:
        LabError: the file holds no mapping, a field that the class does not have, or a value out of range.
    """
    if not isinstance(stored, Mapping):
        raise LabError(f"{one.__name__} is stored as {type(stored).__name__}; a mapping is expected")
    hints = get_type_hints(one)
    if unknown := [name for name in stored if name not in hints]:
        raise LabError(f"{one.__name__} has no setting {unknown[0]!r}; another version of the lab may have written it")
    # JSON has lists only.
    values = {name: tuple(value) if get_origin(hints[name]) is tuple else value for name, value in stored.items()}
    return one(**values)


def read_kind(classes: Iterable[type], stored: object, place: str) -> Any:
    """Return settings of the kind that a file names; see `read_settings`."""
    kind = stored.get("kind") if isinstance(stored, Mapping) else stored
    return read_settings(class_of_kind(classes, kind, place), stored)


def changes_from_default(settings: Any) -> dict[str, Any]:
    """Return the fields of a settings class that are not at their default, as primitives, with its kind if it has one.

    A field that is added later changes nothing here as long as it is at its default.
    """
    defaults = {one.name: one.default for one in fields(settings)}
    return {name: value for name, value in asdict(settings).items() if name == "kind" or value != defaults[name]}
