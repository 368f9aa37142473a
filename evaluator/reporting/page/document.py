"""Document: a page as one HTML file that needs no other.

Its content security policy allows this page's own script and style, by their hashes, and images in the file. It forbids
every request.
"""

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from evaluator.reporting.page.contents import LARGEST, Page, contents
from evaluator.tables import write_text

FILE = "report.html"
SCRIPTS = (
    "bytes", "reading", "statistics", "elements", "settings", "grid", "charts", "ranking", "denoising", "main",
)  # fmt: skip
"""The scripts of the page, in order; they are joined into one."""
RESERVED = 96 * 2**10
"""Bytes of the page beside its contents."""


def asset(name: str, room: str = __package__) -> str:
    """Return the text of a file that is no Python, of this room or another one."""
    return (files(room) / name).read_text(encoding="utf-8")


def one_script(scripts: Sequence[str]) -> str:
    """Return scripts joined into one, whose names stay out of the page's global ones."""
    return '(() => {\n"use strict";\n' + "\n".join(scripts) + "})();\n"


def rendered(template: str, **values: object) -> str:
    """Return a Jinja template with these values, which stay text unless the template marks them as safe."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(values)


def policy(script: str, style: str, connections: str = "'none'") -> str:
    """Return the content security policy of a page with this script and style.

    Args:
        script, style: the text of its only script and its only style.
        connections: where its script may connect to: 'none', or 'self' for its own server.
    """
    return (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data:; "
        f"connect-src {connections}; base-uri 'none'; form-action 'none'"
    )


def json_in_html(value: object) -> str:
    """Return a value as JSON that is safe inside a script element: in ASCII and without <, > and &."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def document(shown: Mapping[str, Any]) -> str:
    """Return the HTML file that shows the result of `contents`."""
    script = one_script([asset(f"{name}.js") for name in SCRIPTS])
    style = asset("page.css")
    return rendered(
        asset("page.html.jinja"),
        shown=shown,
        contents=json_in_html(shown),
        script=script,
        style=style,
        policy=policy(script, style),
    )


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def write_page(path: Path, page: Page, largest: int = LARGEST) -> None:
    """Write a page of at most so many bytes, unless the smallest selection of its images needs more."""
    write_text(path, document(contents(page, largest - RESERVED)))
