"""The one exception a user is meant to see: what was wrong, where, what is allowed and what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class LabError(Exception):
    """A mistake the user can mend, told in one or two lines.

    The command line prints the message and exits with status 2. Anything else that escapes is a bug of the lab.
    """


def lines_of(error: BaseException) -> list[str]:
    """Return the lines of another library's message, at least one: the type's name where it says nothing."""
    return [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]


def nearest(found: str, allowed: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the allowed name closest to `found`, or "" where none is close."""
    matches = get_close_matches(found, list(allowed), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def listed(names: Iterable[object], most: int = 6) -> str:
    """Return names in quotes for a message: the first few, and how many there are; "none" if there are none."""
    shown = [f"{name!r:.60}" for name in names]
    more = f", ... ({len(shown)} in all)" if len(shown) > most else ""
    return f"{', '.join(shown[:most])}{more}" or "none"
