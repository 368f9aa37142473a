"""Class vocabularies of any size, for networks whose classes only have to be counted."""

from lab.data.labels import ClassVocabulary


def some_classes(count: int) -> ClassVocabulary:
    """Return a vocabulary of `count` classes."""
    return ClassVocabulary(tuple(f"class {place}" for place in range(count)))
