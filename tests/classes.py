"""Names of classes, any number of them, for networks whose classes only have to be counted."""


def some_classes(count: int) -> tuple[str, ...]:
    """Return the names of `count` classes."""
    return tuple(f"class {place}" for place in range(count))
