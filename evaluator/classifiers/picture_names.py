"""Names of numbered pictures: which of 0.png, 1.png, ... are missing from a folder, and what it contains instead.

Only these names count. `00.png`, `0.PNG` and `img_0.png` are reported, never read: a wrong guess would score a picture
against another picture's label set.
"""

import re
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from lab.errors import LabError, listed

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")


def file_names(folder: Path) -> set[str]:
    """Return the names of all files and folders in a folder, except hidden ones.

    Raises:
        LabError: the folder does not exist or cannot be read.
    """
    if not folder.is_dir():
        raise LabError(f"{folder}: " + ("this is a file, not a folder" if folder.exists() else "no such folder"))
    try:
        return {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")}
    except OSError as error:
        raise LabError(f"{folder}: cannot be read ({error.strerror or error})") from None


def picture_names(count: int) -> list[str]:
    """Return the names that this many pictures must have."""
    return [f"{number}.png" for number in range(count)]


def beyond(names: Collection[str], count: int) -> list[str]:
    """Return the numeric names that are not among the first `count`, sorted: for 32, also 32.png, 00.png or 0.PNG."""
    wanted = set(picture_names(count))
    numbers = [name for name in names if re.fullmatch(r"[0-9]+\.png", name, re.IGNORECASE) and name not in wanted]
    return sorted(numbers, key=lambda name: (int(name[:-4]), name))


def instead(names: Collection[str], count: int) -> tuple[str, bool]:
    """Describe what a folder contains instead of its missing pictures, and say if renaming is enough.

    The description is "" if the folder contains no other pictures.

    Args:
        names: names of the files in the folder.
        count: number of pictures required.
    """
    wanted = set(picture_names(count))
    series: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for name in names:
        match = re.fullmatch(r"(.*?)([0-9]+)(\.\w+)", name, re.DOTALL)
        if match and match[3].lower() in SUFFIXES:
            series[match[1], match[3]].append((int(match[2]), name))
    others = {key: sorted(files) for key, files in series.items() if any(name not in wanted for _, name in files)}
    if not others:
        pictures = sorted(name for name in names if name.lower().endswith(SUFFIXES) and name not in wanted)
        return listed(pictures, most=2) if pictures else "", False
    (_, suffix), files = max(others.items(), key=lambda item: (len(item[1]), item[0]))
    numbers = [number for number, _ in files]
    first, last = files[0][1], files[-1][1]
    if len(files) == 1 or (first in wanted and last in wanted):
        # One misnamed picture among correctly named ones.
        return listed([name for _, name in files if name not in wanted], most=2), False
    is_whole = numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    words = f"{shown(first)} to {shown(last)}"
    if not is_whole:
        return f"{len(files)} from {words}", False
    return words, len(files) == count and suffix.lower() == ".png"


def shown(name: str) -> str:
    """Return a file name for a message, escaped if it cannot be printed."""
    return name if name.isprintable() else ascii(name)
