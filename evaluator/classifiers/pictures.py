"""Folders of pictures from any program, read in the form that the evaluator needs."""

from pathlib import Path

import numpy as np
import torch

from evaluator.classifiers.picture_names import beyond, file_names, instead, picture_names
from lab.data.image_files import as_seen
from lab.errors import LabError, lines_of, listed
from lab.machine.file_kinds import other_kind
from lab.types import PixelImages


def numbered_pictures(folder: Path, count: int, image_shape: tuple[int, int, int]) -> PixelImages:
    """Read 0.png, 1.png, ... from a folder, as 8-bit pixels.

    Args:
        folder: the folder of PNG files.
        count: number of pictures required.
        image_shape: the evaluator's (channels, height, width). 1 channel reads grey, 3 channels read RGB. As in a
            viewer, EXIF orientation is applied and transparency is laid over white. Pictures are never resized: the
            choice of a resizing method is their maker's.

    Raises:
        LabError: the folder is missing or has too many pictures, or pictures are missing, misnamed, unreadable or of
            another size. The message counts the wrong pictures and names the first.
    """
    channels, height, width = image_shape
    names = file_names(folder)
    pixels = np.empty((count, height, width, channels), dtype=np.uint8)
    wrong: list[str] = []
    is_missing = False
    for number, name in enumerate(picture_names(count)):
        if name not in names or not (folder / name).is_file():
            wrong.append(f"{name} is missing")
            is_missing = True
        elif isinstance(content := _pixels(folder / name, image_shape), str):
            wrong.append(f"{name} {content}")
        else:
            pixels[number] = content
    allowed = f"0.png to {count - 1}.png, one per label set, each {width}x{height}"
    if wrong:
        others, is_renaming = instead(names, count) if is_missing else ("", False)
        raise LabError(
            f"{folder}: {len(wrong)} of {count} pictures cannot be scored; first problem: {wrong[0]}"
            + (f"; the folder has {others}" if others else _folders(folder, names) if len(wrong) == count else "")
            + (f"\nrename them to {allowed}" if is_renaming else f"\nexpected {allowed}")
        )
    if more := beyond(names, count):
        raise LabError(f"{folder}: more pictures than the {count} label sets: {listed(more)}\nexpected {allowed}")
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def _folders(folder: Path, names: set[str]) -> str:
    """Return the part of a message that names a folder's subfolders, or "" if it has none."""
    inside = sorted(name for name in names if (folder / name).is_dir())
    return f"; its subfolders are {listed(inside, most=3)}: give those with pictures" if inside else ""


def _pixels(path: Path, image_shape: tuple[int, int, int]) -> np.ndarray | str:
    """Return a picture's pixels, (height, width, channels), or a description of what is wrong with it."""
    from PIL import Image

    channels, height, width = image_shape
    try:
        if kind := other_kind(path):
            return f"cannot be read (it is {kind})"
        # Only PNG: for some other formats, Pillow starts external programs.
        with Image.open(path, formats=("PNG",)) as picture:
            if picture.mode.startswith(("I", "F")):
                # Pillow would clamp these to 255 and turn the picture white.
                return "has a channel of more than 8 bits"
            if sorted(picture.size) != sorted((width, height)):  # EXIF may exchange the sides
                return f"is {picture.size[0]}x{picture.size[1]}, not {width}x{height}"
            seen = as_seen(picture)
            if seen.size != (width, height):
                return f"is {seen.size[0]}x{seen.size[1]}, not {width}x{height}"
            content = np.asarray(seen.convert("RGB" if channels == 3 else "L"))
            return content.reshape(height, width, channels)
    except Exception as error:  # Pillow raises almost any exception for a damaged file
        return f"cannot be read ({lines_of(error)[0]:.60})"
