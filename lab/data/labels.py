"""Class vocabularies, label sets and conditions.

A class vocabulary (`objects.json`) is the ordered list of class names. A label set is the list of class names for one
image. A label-set file (`test.json`) is a JSON list of label sets, and `train.json` maps each image of a folder to its
label set. A condition is a label set as a multi-hot row.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from lab.errors import LabError, nearest
from lab.text import printable, read_utf8
from lab.types import Conditions

LabelSet = tuple[str, ...]

LABEL_SET = 'a label set is a list of class names, like ["7"] or ["red cube", "blue sphere"]'


@dataclass(frozen=True)
class ClassVocabulary:
    """The ordered class names. The position of a class is its index in every condition and every row of logits.

    Raises:
        LabError: there are no names, a name is empty, or a name occurs twice.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.names:
            raise LabError("the class vocabulary is empty; it needs at least one class name")
        for name in self.names:
            if not name.strip():
                raise LabError(f"the class vocabulary has an empty class name: {list(self.names)}")
            if self.names.count(name) > 1:
                raise LabError(f"class {name!r} occurs twice in the class vocabulary; names must be distinct")

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Return the index of a class name, given as `printable` text or as in the name of a file or folder.

        Raises:
            LabError: the name is not in the vocabulary; the message suggests the nearest name.
        """
        try:
            return self.names.index(printable(name))
        except ValueError:
            raise LabError(f"unknown class {name!r}{nearest(name, self.names) or self._allowed()}") from None

    def _allowed(self) -> str:
        shown = ", ".join(map(repr, self.names[:6]))
        return f"; the {len(self.names)} classes are {shown}{', ...' if len(self.names) > 6 else ''}"

    def require_same(self, other: "ClassVocabulary", owner: Path) -> None:
        """Raise LabError, naming the first difference, unless `other` has the same names in the same order.

        Args:
            other: the vocabulary of `objects.json`.
            owner: the file or dataset that has this vocabulary.
        """
        if len(self) != len(other):
            raise LabError(
                f"{owner}: has {len(self)} classes, but objects.json has {len(other)}; use the file it was made with"
            )
        for k, (own, theirs) in enumerate(zip(self.names, other.names, strict=True)):
            if own != theirs:
                raise LabError(
                    f"{owner}: class {k} is {own!r}, but objects.json calls it {theirs!r}; "
                    f"names and order must be the same"
                )

    def conditions(self, label_sets: Sequence[LabelSet]) -> Conditions:
        """Return the multi-hot conditions of label sets, shape (len(label_sets), K), float32."""
        conditions = torch.zeros(len(label_sets), len(self))
        rows = [row for row, label_set in enumerate(label_sets) for _ in label_set]
        conditions[rows, [self.index(name) for label_set in label_sets for name in label_set]] = 1.0
        return conditions

    def label_sets(self, conditions: Conditions) -> list[LabelSet]:
        """Return the label set of each multi-hot row, in index order."""
        return [tuple(self.names[k] for k in row.nonzero().flatten().tolist()) for row in conditions]


def load_vocabulary(path: Path) -> ClassVocabulary:
    """Read `objects.json`: an object that maps class names to indices 0 to K - 1, or a list of names in order.

    Raises:
        LabError: the file is missing or not JSON, names are not distinct, or indices are not 0 to K - 1.
    """
    content = _load_json(path, "class vocabulary")
    allowed = 'it must be {"name": 0, "other name": 1, ...} or a list of names'
    if isinstance(content, dict):
        if any(type(index) is not int for index in content.values()):
            raise LabError(f"{path}: a class index is not a whole number; {allowed}")
        if sorted(content.values()) != list(range(len(content))):
            raise LabError(
                f"{path}: class indices are {sorted(content.values())}; they must be 0 to {len(content) - 1}"
            )
        names: list[object] = sorted(content, key=lambda name: content[name])
    elif isinstance(content, list):
        names = content
    else:
        raise LabError(f"{path}: got {_kind(content)}; {allowed}")
    for place, name in enumerate(names):
        if not isinstance(name, str):
            raise LabError(f"{path}: class {place} is {_kind(name)}, not a name; {allowed}")
    try:
        return ClassVocabulary(tuple(printable(str(name)) for name in names))
    except LabError as error:
        raise LabError(f"{path}: {error}") from None


def load_label_sets(path: Path, vocabulary: ClassVocabulary) -> tuple[LabelSet, ...]:
    """Read a label-set file: a JSON list of lists of class names, one list per image.

    Raises:
        LabError: the file is missing, not JSON, empty, or not a list of lists of names; or a label set is empty, has
            an unknown class or has a class twice. The message counts label sets from 1.
    """
    content = _load_json(path, "label-set file")
    allowed = 'it must be a list of lists of class names, like [["7"], ["red cube", "blue sphere"]]'
    if not isinstance(content, list):
        raise LabError(f"{path}: got {_kind(content)}; {allowed}")
    if not content:
        raise LabError(f"{path}: has no label set; {allowed}")
    return tuple(
        _label_set(names, f"{path}, label set {number} of {len(content)}", vocabulary)
        for number, names in enumerate(content, start=1)
    )


def typed_label_set(text: str, vocabulary: ClassVocabulary) -> LabelSet:
    """Parse a label set that a user typed: class names separated by commas, like "red cube, blue sphere".

    A text that equals a class name is that class, even if it contains commas.

    Raises:
        LabError: a class is unknown or occurs twice.
    """
    names = [text] if text in vocabulary.names else [name.strip() for name in text.split(",")]
    return _label_set(names, f"{text!r}", vocabulary)


def load_image_labels(path: Path, vocabulary: ClassVocabulary) -> dict[str, LabelSet]:
    """Read `train.json`: an object that maps image file names to the label sets of the images, in the file's order.

    Raises:
        LabError: the file is missing, not JSON, not an object, or empty; a file name occurs twice; or a label set is
            empty, has an unknown class or has a class twice.
    """
    content = _load_json(path, "file of image labels")
    if not isinstance(content, dict) or not content:
        kind = "an empty object" if isinstance(content, dict) else _kind(content)
        raise LabError(f'{path}: got {kind}; it must be {{"image file name": ["class", "other class"], ...}}')
    return {name: _label_set(names, f"{path}, image {name!r}", vocabulary) for name, names in content.items()}


def _label_set(names: object, place: str, vocabulary: ClassVocabulary) -> LabelSet:
    """Return one label set of a file, or raise LabError with the place and the problem."""
    if not isinstance(names, list):
        raise LabError(f"{place}: got {_kind(names)}; {LABEL_SET}")
    if not names:
        raise LabError(f"{place}: is empty; a label set needs at least one class")
    indices: list[int] = []
    for name in names:
        if not isinstance(name, str):
            raise LabError(f"{place}: got {_kind(name)}; {LABEL_SET}")
        try:
            index = vocabulary.index(name)
        except LabError as error:
            raise LabError(f"{place}: {error}") from None
        if index in indices:
            raise LabError(f"{place}: class {name!r} occurs twice; name each class once")
        indices.append(index)
    return tuple(vocabulary.names[index] for index in indices)


def _load_json(path: Path, noun: str) -> object:
    def refuse_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
        content: dict[str, object] = {}
        for name, value in pairs:
            if name in content:
                raise LabError(f"{path}: {name!r} occurs twice; names must be distinct")
            content[name] = value
        return content

    try:
        text = read_utf8(path)
    except FileNotFoundError:
        siblings = sorted(p.name for p in path.parent.glob("*.json")) if path.parent.is_dir() else []
        raise LabError(f"{path}: no such {noun}{nearest(path.name, siblings)}") from None
    except (OSError, ValueError) as error:
        raise LabError(f"{path}: cannot read this {noun} ({error})") from None
    if not text.strip():
        raise LabError(f"{path}: this {noun} is empty")
    try:
        return json.loads(text, object_pairs_hook=refuse_repeats)
    except json.JSONDecodeError as error:
        raise LabError(
            f"{path}, line {error.lineno}, column {error.colno}: not JSON ({error.msg}); a {noun} must be JSON"
        ) from None
    except (RecursionError, ValueError) as error:  # nested too deeply, or a number with thousands of digits
        raise LabError(f"{path}: cannot be read as a {noun} ({error!s:.60})") from None


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "the text", bool: "the truth value", type(None): "null"}
    kind = kinds.get(type(value), "the number")
    return f"{kind} {value!r:.40}" if isinstance(value, str | int | float) else kind
