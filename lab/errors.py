"""The exception for users. Its message says what is wrong and where, what is allowed, and what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class LabError(Exception):
    """An error that the user can correct, with a message of one or two lines.

    The command line prints the message and exits with status 2. Any other exception is a bug in the lab.
    """


def lines_of(error: BaseException) -> list[str]:
    """Return the non-empty lines of an exception's message, or the name of its type if the message is empty."""
    return [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]


def nearest(found: str, allowed: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" with the allowed name closest to `found`, or "" if no name is close."""
    matches = get_close_matches(found, list(allowed), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def listed(names: Iterable[object], most: int = 6) -> str:
    """Return the first `most` names in quotes for a message, with the total if there are more; "none" if empty."""
    shown = [f"{name!r:.60}" for name in names]
    more = f", ... ({len(shown)} in all)" if len(shown) > most else ""
    return f"{', '.join(shown[:most])}{more}" or "none"
