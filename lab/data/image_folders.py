"""Folders of image files as labelled images, decoded once into a cache of 8-bit pixels.

A scene folder holds `objects.json`, `train.json` (file name to list of class names) and the images; i-CLEVR's is one.
Class folders are a folder with one folder of images a class. Images become RGB, whatever they were (transparency is
dropped), and are resized straight to a square without cropping: bilinear with antialiasing, as torchvision's
`Resize((side, side))` does to an RGB image.
"""

import hashlib
import os
import posixpath
import re
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache as remembered
from multiprocessing.pool import ThreadPool
from pathlib import Path, PurePath
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from lab.data.labelled_images import LabelledImages, one_label_images
from lab.data.labels import ClassVocabulary, load_image_labels, load_vocabulary
from lab.errors import LabError, lines_of
from lab.machine.files import remove_leftovers, whole_file
from lab.machine.locks import locked
from lab.text import printable
from lab.types import ImageNumbers, PixelImages

CACHE_FORMAT = 1
"""Raise it when the same files would be decoded to other pixels; every cache is made anew then."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
# Named, because Pillow would start other programs for some of the formats it knows.
PILLOW_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
LARGEST_IMAGE = 50_000_000
"""Pixels of the largest image decoded; a small file can claim to hold any number."""


def scene_folder(folder: Path, image_size: int, cache: Path) -> LabelledImages:
    """Return the images that `train.json` names, in its order, with the label sets it gives them.

    Images whose names differ only in the number after the last "_" show one scene and form a group.

    Args:
        folder: holds objects.json, train.json and the images.
        image_size: side of the images returned, in pixels.
        cache: folder for the decoded pixels.

    Raises:
        LabError: a JSON file is missing or wrong, or an image is missing, unreadable or outside the folder.
    """
    vocabulary = load_vocabulary(folder / "objects.json")
    if not (folder / "train.json").exists():
        raise LabError(
            f"{folder}: no train.json, which names the images; copy i-CLEVR's files, give --data.folder, or render:\n"
            f"python run_experiments.py render-scenes --out {folder} --scenes 2000"
        )
    labels = load_image_labels(folder / "train.json", vocabulary)
    pixels = cached_pixels(folder, tuple(labels), image_size, cache)
    return LabelledImages(pixels, vocabulary.conditions(tuple(labels.values())), vocabulary, scene_groups(labels))


def class_folders(folder: Path, image_size: int, cache: Path) -> LabelledImages:
    """Return the images of a folder with one folder a class, one label an image.

    Args:
        folder: its folders are the classes; what is hidden, or has no image's suffix, is passed over.
        image_size: side of the images returned, in pixels.
        cache: folder for the decoded pixels.

    Raises:
        LabError: no class folder, one without images, or an image is unreadable or outside the folder.
    """
    vocabulary = class_folder_vocabulary(folder)
    names, classes = [], []
    for index, class_folder in enumerate(_class_folders(folder)):
        files = [file.name for file in _visible(class_folder) if file.suffix.lower() in SUFFIXES]
        if not files:
            raise LabError(f"{class_folder}: no image in this class folder; allowed are {', '.join(SUFFIXES)}")
        names += [f"{class_folder.name}/{file}" for file in files]
        classes += [index] * len(files)
    return one_label_images(cached_pixels(folder, names, image_size, cache), torch.tensor(classes), vocabulary)


def class_folder_vocabulary(folder: Path) -> ClassVocabulary:
    """Return the names of the class folders in this folder, sorted; what is not UTF-8 in one is escaped.

    Raises:
        LabError: there is no such folder, or no folder in it.
    """
    return ClassVocabulary(tuple(printable(entry.name) for entry in _class_folders(folder)))


def _class_folders(folder: Path) -> list[Path]:
    """Return the class folders in this folder, under their true names, in the order of the vocabulary."""
    folders = [entry for entry in _visible(folder) if entry.is_dir()]
    if not folders:
        raise LabError(f"{folder}: no class folder in it; it must hold one folder of images a class")
    return sorted(folders, key=lambda entry: printable(entry.name))


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise LabError(
            f"{folder}: cannot read this folder of images ({error.strerror}); --data.folder says where it is"
        ) from None


def scene_groups(names: Iterable[str]) -> ImageNumbers:
    """Number the scenes of file names: CLEVR_train_002066_0.png and CLEVR_train_002066_1.png show the same one.

    A name that does not end in "_" and a number, apart from its suffix, is a scene of its own.
    """
    numbers: dict[str, int] = {}
    scenes = [re.sub(r"_\d+(\.[^./]*)?$", "", posixpath.normpath(name)) for name in names]
    return torch.tensor([numbers.setdefault(scene, len(numbers)) for scene in scenes])


@dataclass(frozen=True)
class _Refused:
    """Why an image cannot be used."""

    kind: Literal["missing", "outside the folder", "unreadable"]
    reason: str


def cached_pixels(folder: Path, names: Sequence[str], image_size: int, cache: Path) -> PixelImages:
    """Return the images of these names as RGB pixels, memory-mapped from the cache, decoding them where it has none.

    The cache's file is named after a digest of the side, and of every file's name, size and time of change: what was
    decoded from other files is never taken for these.

    Args:
        folder: the images must lie in it.
        names: of the images, relative to the folder.
        image_size: side of the images returned, in pixels.
        cache: folder for the decoded pixels.

    Returns:
        (N, 3, image_size, image_size). Writing to them changes neither the cache nor other mappings of it.

    Raises:
        LabError: images are missing, unreadable or outside the folder; the message counts them and names the first.
    """
    files = _inspected(folder, names)
    key = repr((CACHE_FORMAT, image_size, list(zip(names, files, strict=True))))
    path = cache / f"{hashlib.sha256(key.encode(errors='surrogatepass')).hexdigest()[:32]}.npy"
    shape = (len(names), 3, image_size, image_size)
    cached = _mapped(path, shape)
    if cached is None:
        with locked(cache, wait=True):
            remove_leftovers(cache)
            # Another run may have decoded them while this one waited.
            if _mapped(path, shape) is None:
                _decode(folder, names, files, shape, path)
        cached = _mapped(path, shape)
        assert cached is not None
    return cached


def _mapped(path: Path, shape: tuple[int, ...]) -> PixelImages | None:
    """Return the pixels in a cache file, or None where there is none, or not a whole one, of this shape."""
    try:
        # Copy-on-write: torch has no read-only tensors and would warn of anything else.
        pixels = np.load(path, mmap_mode="c")
    except (OSError, ValueError, EOFError):
        return None
    return torch.from_numpy(pixels) if (pixels.shape, pixels.dtype) == (shape, np.uint8) else None


def _inspected(folder: Path, names: Sequence[str]) -> list[tuple[int, int] | _Refused]:
    """Return each file's (size in bytes, time of change in ns), or why it is not to be read; opens no file."""
    root = folder.resolve()

    def is_inside(path: Path) -> bool:
        return path.resolve().is_relative_to(root)

    @remembered  # paths are slow, and thousands of images share their folder
    def parent(head: str) -> Path | None:
        relative = PurePath(head)
        refused = relative.is_absolute() or ".." in relative.parts or not is_inside(root / relative)
        return None if refused else root / relative

    def inspected(name: str) -> tuple[int, int] | _Refused:
        head, tail = posixpath.split(name)
        try:
            if tail == ".." or os.sep in tail or parent(head) is None:
                return _Refused("outside the folder", "it leads out of the folder")
            path = f"{parent(head)}/{tail}"
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                if not is_inside(Path(path)):
                    return _Refused("outside the folder", "it is a link out of the folder")
                status = Path(path).stat()
        except (OSError, ValueError, RuntimeError) as error:  # also a name no file can have, and a link to itself
            return _Refused("missing", (error.strerror if isinstance(error, OSError) else None) or str(error))
        if not stat.S_ISREG(status.st_mode):
            return _Refused("unreadable", "it is not a file")
        return status.st_size, status.st_mtime_ns

    return [inspected(name) for name in names]


def _decode(
    folder: Path, names: Sequence[str], files: Sequence[tuple[int, int] | _Refused], shape: tuple[int, ...], path: Path
) -> None:
    """Write the cache file of these images, whole or not at all; refused images are counted to the end."""

    def decoded(name: str, file: tuple[int, int] | _Refused) -> UInt8[np.ndarray, "3 side side"] | _Refused:
        return file if isinstance(file, _Refused) else decoded_image(folder / name, shape[-1])

    refused: list[tuple[str, _Refused]] = []
    # Threads, for Pillow lets go of Python's lock while it decodes. Written as they come, the pixels need no memory.
    with whole_file(path) as temporary, temporary.open("wb") as output, ThreadPool() as pool:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(output, header)
        images = pool.imap(lambda image: decoded(*image), zip(names, files, strict=True), chunksize=16)
        for name, image in zip(names, tqdm(images, desc="decoding", total=len(names), unit="image"), strict=True):
            if isinstance(image, _Refused):
                refused.append((name, image))
            else:
                output.write(image.tobytes())
        if refused:
            counts = Counter(image.kind for _, image in refused)
            told = ", ".join(f"{count} {kind}" for kind, count in counts.items())
            name, first = refused[0]
            raise LabError(
                f"{folder}: {len(refused)} of {len(names)} images cannot be used: {told}\n"
                f"the first is {name!r} ({first.reason}); put them right, or leave them out"
            )


def decoded_image(path: Path, image_size: int) -> UInt8[np.ndarray, "3 side side"] | _Refused:
    """Return an image file as RGB pixels of this side, or why it cannot be read."""
    try:
        with Image.open(path, formats=PILLOW_FORMATS) as image:
            width, height = image.size
            if width * height > LARGEST_IMAGE:
                return _Refused("unreadable", f"{width}x{height}; allowed are {LARGEST_IMAGE:,} pixels in all")
            if image.mode.startswith(("I", "F")):
                # Pillow would clamp these to 255, and a photograph would come out white.
                return _Refused("unreadable", "it has one channel of more than 8 bits; allowed are 8")
            square = image.convert("RGB").resize((image_size, image_size), Image.Resampling.BILINEAR)
            return np.asarray(square).transpose(2, 0, 1)
    except Exception as error:  # Pillow's readers raise nearly anything over a damaged file
        return _Refused("unreadable", lines_of(error)[0].replace(f" {str(path)!r}", ""))
