"""Rooms: what their folders say of themselves."""

import ast
import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
ROOMS = sorted(
    path.parent for top in ("lab", "evaluator", "experiments") for path in (PROJECT / top).rglob("__init__.py")
)


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(PROJECT)))
def test_each_room_has_a_line_for_each_file_and_for_no_other(room: Path) -> None:
    text = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8"))) or ""
    lines = re.findall(r"^ *(\w+)(?:/ +|  +)\S", text, re.MULTILINE)
    files = {path.stem for path in room.glob("*.py")} - {"__init__"}
    assert set(lines) == files | {path.parent.name for path in room.glob("*/__init__.py")}
    assert len(lines) == len(set(lines))
