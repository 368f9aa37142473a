"""Names of numbered pictures: which of 0.png, 1.png, ... a folder lacks, and what it has instead.

Only these names count: `00.png`, `0.PNG` and `img_0.png` are reported and not guessed at, because a wrong guess would
judge a picture by another picture's label set.
"""

import re
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from lab.errors import LabError, listed

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")


def file_names(folder: Path) -> set[str]:
    """Return the names of what lies in a folder, hidden files apart.

    Raises:
        LabError: there is no such folder, or it cannot be read.
    """
    if not folder.is_dir():
        raise LabError(f"{folder}: " + ("this is a file, not a folder" if folder.exists() else "no such folder"))
    try:
        return {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")}
    except OSError as error:
        raise LabError(f"{folder}: cannot be read ({error.strerror or error})") from None


def picture_names(count: int) -> list[str]:
    """Return the names that so many pictures must have."""
    return [f"{number}.png" for number in range(count)]


def beyond(names: Collection[str], count: int) -> list[str]:
    """Return the names that are numbers but none of the first `count`, sorted: 32.png, 00.png or 0.PNG of 32."""
    wanted = set(picture_names(count))
    numbers = [name for name in names if re.fullmatch(r"[0-9]+\.png", name, re.IGNORECASE) and name not in wanted]
    return sorted(numbers, key=lambda name: (int(name[:-4]), name))


def instead(names: Collection[str], count: int) -> tuple[str, bool]:
    """Return in words what a folder has in place of the pictures it lacks, "" if nothing, and if renaming will do.

    Args:
        names: in the folder.
        count: how many pictures there must be.
    """
    wanted = set(picture_names(count))
    series: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for name in names:
        match = re.fullmatch(r"(.*?)([0-9]+)(\.\w+)", name, re.DOTALL)
        if match and match[3].lower() in SUFFIXES:
            series[match[1], match[3]].append((int(match[2]), name))
    others = {key: sorted(found) for key, found in series.items() if any(name not in wanted for _, name in found)}
    if not others:
        pictures = sorted(name for name in names if name.lower().endswith(SUFFIXES) and name not in wanted)
        return listed(pictures, most=2) if pictures else "", False
    (_, suffix), found = max(others.items(), key=lambda item: (len(item[1]), item[0]))
    numbers = [number for number, _ in found]
    first, last = found[0][1], found[-1][1]
    if len(found) == 1 or (first in wanted and last in wanted):
        # One misnamed picture among rightly named ones.
        return listed([name for _, name in found if name not in wanted], most=2), False
    is_whole = numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    words = f"{shown(first)} to {shown(last)}"
    if not is_whole:
        return f"{len(found)} from {words}", False
    return words, len(found) == count and suffix.lower() == ".png"


def shown(name: str) -> str:
    """Return a file's name as a message shows it: escaped if it cannot be printed."""
    return name if name.isprintable() else ascii(name)
