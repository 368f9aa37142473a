"""Document: a page as one HTML file that needs no other.

Its content security policy allows this page's own script and style, by their hashes, and images in the file. It forbids
every request.
"""

import json
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from evaluator.reporting.page.contents import LARGEST, Page, contents
from evaluator.tables import write_text

FILE = "report.html"
SCRIPTS = (
    "reading", "statistics", "elements", "settings", "grid", "charts", "ranking", "denoising", "main",
)  # fmt: skip
"""The scripts of the page, in order; they are joined into one."""
RESERVED = 96 * 2**10
"""Bytes of the page beside its contents."""


def asset(name: str) -> str:
    """Return the text of one of this room's files that are no Python."""
    return (files(__package__) / name).read_text(encoding="utf-8")


def json_in_html(value: object) -> str:
    """Return a value as JSON that is safe inside a script element: in ASCII and without <, > and &."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def document(shown: Mapping[str, Any]) -> str:
    """Return the HTML file that shows the result of `contents`."""
    script = '(() => {\n"use strict";\n' + "\n".join(asset(f"{name}.js") for name in SCRIPTS) + "})();\n"
    style = asset("page.css")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(asset("page.html.jinja")).render(
        shown=shown,
        contents=json_in_html(shown),
        script=script,
        style=style,
        policy=f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'",
    )


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def write_page(path: Path, page: Page, largest: int = LARGEST) -> None:
    """Write a page of at most so many bytes, unless the smallest selection of its images needs more."""
    write_text(path, document(contents(page, largest - RESERVED)))
