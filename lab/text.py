"""Text from file names and from users' files: read as Unicode, and always printable.

Python keeps the bytes of a file name that is not UTF-8 (Big5 from a ZIP made on Windows, for one) as lone surrogates,
U+DC80 to U+DCFF. They open the file, but no encoder accepts them. So paths keep them, and every name that is taken from
a path or a file passes through `printable`.

Importing this does not import torch.
"""

import codecs
import io
import json
import sys
from pathlib import Path

from lab.errors import LabError


def printable(text: str) -> str:
    r"""Return text that every table, figure and file accepts, the same text where it is Unicode already.

    Bytes that are no UTF-8 become escapes, like "\xa4\xa4"; so do other lone surrogates, like "\ud800".
    """
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


def escape_output() -> None:
    """Have standard output and error show what their encoding lacks as `printable` does, so that no print fails."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPED)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for the characters that an encoder refuses, and where it goes on."""
    assert isinstance(error, UnicodeEncodeError)
    shown = printable(error.object[error.start : error.end])
    return shown.encode("ascii", "backslashreplace").decode("ascii"), error.end


ESCAPED = "lab.escaped"
"""The name of an error handler of Python's encoders."""
codecs.register_error(ESCAPED, _escaped)


def read_utf8(path: Path) -> str:
    """Return the text of a JSON file in UTF-8, with or without a byte order mark.

    Raises:
        LabError: it is in another encoding; the message names UTF-16 and UTF-32, and says how to save the file.
        OSError: it cannot be read.
    """
    content = path.read_bytes()
    # By the byte order mark, or by where the zeros are among the first four bytes.
    encoding = json.detect_encoding(content)
    remedy = 'save it as UTF-8 (in an editor: "Save as", encoding UTF-8)'
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        raise LabError(f"{path} is not UTF-8 text; {remedy}") from None
    if not encoding.startswith("utf-8"):
        raise LabError(f"{path} is saved as {encoding[:6].upper()}; {remedy}")
    return text
