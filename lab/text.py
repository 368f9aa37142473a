"""Text from file names and users' files: reading it as Unicode and making it printable.

Python represents the bytes of a file name that is not UTF-8 (for example Big5, from a ZIP made on Windows) as lone
surrogates, U+DC80 to U+DCFF. They open the file, but no encoder accepts them. Paths therefore keep them, and every name
from a path or a file goes through `printable`.

Importing this does not import torch.
"""

import codecs
import io
import json
import sys
from pathlib import Path

from lab.errors import LabError


def printable(text: str) -> str:
    r"""Return text that every table, figure and file accepts. Valid Unicode is returned unchanged.

    Bytes that are not UTF-8 become escapes, like "\xa4\xa4", and so do other lone surrogates, like "\ud800".
    """
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


def escape_output() -> None:
    """Make standard output and error escape characters that their encoding lacks, so that no print fails."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPED)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """Return the replacement for characters that an encoder refuses, and the position where it continues."""
    assert isinstance(error, UnicodeEncodeError)
    shown = printable(error.object[error.start : error.end])
    return shown.encode("ascii", "backslashreplace").decode("ascii"), error.end


ESCAPED = "lab.escaped"
"""The name of the error handler, as registered with Python's encoders."""
codecs.register_error(ESCAPED, _escaped)


def read_utf8(path: Path) -> str:
    """Return the text of a JSON file in UTF-8, with or without a byte order mark.

    Raises:
        LabError: the file has another encoding; the message names UTF-16 or UTF-32, and says how to save the file.
        OSError: the file cannot be read.
    """
    content = path.read_bytes()
    # Detected from the byte order mark, or from the positions of zeros among the first four bytes.
    encoding = json.detect_encoding(content)
    remedy = 'save it as UTF-8 (in an editor: "Save as", encoding UTF-8)'
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        raise LabError(f"{path} is not UTF-8 text; {remedy}") from None
    if not encoding.startswith("utf-8"):
        raise LabError(f"{path} is {encoding[:6].upper()} text; {remedy}")
    return text
