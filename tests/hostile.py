"""What tests of hostile input draw, and what they ask of whatever reads it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from lab.data.labels import ClassVocabulary
from lab.errors import LabError

VOCABULARY = ClassVocabulary(("cube", "sphere", "cone"))
LABEL_SETS = b'[["cube"], ["sphere", "cone"], ["cone"]]'
OBJECTS = b'{"cube": 0, "sphere": 1, "cone": 2}'
IMAGE_LABELS = b'{"a_0.png": ["cube"], "a_1.png": ["cube", "cone"]}'

names = st.sampled_from(["cube", "sphere", "cone", "Cube", "", " ", "a_0.png", "../a", "\x00", "$x$", "|", "\\", "😀"])
primitives = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | names
values = st.recursive(
    primitives,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4) | names, inner, max_size=4),
    max_leaves=12,
)


def cases(count: int) -> Callable[[Any], Any]:
    """Run a test on so many cases, the same ones every time."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def spoilt(draw: st.DrawFn, whole: bytes) -> bytes:
    """Draw bytes that are these, cut, flipped, mixed, repeated or replaced."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        match draw(st.sampled_from(["cut", "flip", "insert", "zero", "double", "replace"])):
            case "cut":
                del content[place:]
            case "flip" if content:
                content[place] ^= 1 << draw(st.integers(0, 7))
            case "insert":
                content[place:place] = draw(st.binary(max_size=6))
            case "zero":
                content[place : place + 8] = bytes(len(content[place : place + 8]))
            case "double":
                content[place:place] = content[place : place + 20]
            case "replace":
                content[:] = draw(st.binary(max_size=40))
            case _:
                pass
    return bytes(content)


def as_file(whole: bytes) -> st.SearchStrategy[bytes]:
    """Files that are a spoilt one of these, or any JSON, or JSON that is nested too deeply."""
    deep = st.integers(1, 2000).map(lambda depth: b"[" * depth + b"]" * depth)
    deep_objects = st.integers(1, 2000).map(lambda depth: b'{"a":' * depth + b"1" + b"}" * depth)
    return spoilt(whole) | values.map(lambda value: json.dumps(value).encode()) | deep | deep_objects


def ended_well(call: Callable[[], object], path: Path) -> bool:
    """Call, and tell whether it had a result; where it had none, it told one error, and the file is as it was."""
    before = path.read_bytes()
    try:
        call()
        return True
    except LabError as error:
        told = str(error)
        assert told.strip()
        assert len(told.splitlines()) <= 3, told
        return False
    finally:
        assert path.read_bytes() == before
