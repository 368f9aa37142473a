"""Folders of image files as labelled images, decoded once into a cache of 8-bit pixels.

An image folder holds images at any depth, without labels. A scene folder holds images, and `objects.json` and
`train.json` (file name to list of class names) beside or above them; i-CLEVR's is one. Class folders are a folder with
one folder of images per class. `image_files` says what becomes of an image.
"""

import hashlib
import os
import posixpath
import re
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache as remembered
from multiprocessing.pool import ThreadPool
from pathlib import Path, PurePath
from typing import NoReturn

import numpy as np
import torch
from jaxtyping import UInt8
from tqdm import tqdm

from lab.data.image_files import SUFFIXES, Refused, decoded_image
from lab.data.labelled_images import LabelledImages, one_label_images
from lab.data.labels import ClassVocabulary, load_image_labels, load_vocabulary
from lab.errors import LabError
from lab.machine.files import remove_leftovers, whole_file
from lab.machine.locks import locked
from lab.text import printable
from lab.types import ImageNumbers, PixelImages

CACHE_FORMAT = 2
"""Raise it when the same files would be decoded to other pixels; every cache is made anew then."""


def image_folder(folder: Path, image_size: int, cache: Path, allow_links: bool = False) -> LabelledImages:
    """Return the images of a folder and of the folders in it, in the order of their names, without labels.

    Their vocabulary is the one class "image", and every condition is the null condition. Standard error says how many
    files were skipped because their ending is no image's.

    Args:
        folder: the folder.
        image_size: side of the images returned, in pixels.
        cache: folder for the decoded pixels.
        allow_links: whether links out of the folder are followed.

    Raises:
        LabError: the folder cannot be read or has no images, or an image is unreadable or outside the folder.
    """

    def refuse(error: OSError) -> NoReturn:
        raise LabError(
            f"{error.filename}: cannot read this folder of images ({error.strerror}); --data.folder says where it is"
        ) from None

    names, others = [], 0
    for place, folders, files in os.walk(folder, onerror=refuse, followlinks=allow_links):
        folders[:] = [name for name in folders if not name.startswith(".")]
        shown = [name for name in files if not name.startswith(".")]
        within = Path(place).relative_to(folder)
        names += [(within / name).as_posix() for name in shown if _is_image(name)]
        others += sum(not _is_image(name) for name in shown)
    if not names:
        raise LabError(f"{folder}: no images ({', '.join(SUFFIXES)}); --data.folder says where they are")
    if others:
        _say(f"{folder}: skipped {_counted(others, 'file')} of other endings")
    pixels = cached_pixels(folder, sorted(names), image_size, cache, allow_links)
    vocabulary = ClassVocabulary(("image",))
    return LabelledImages(pixels, torch.zeros(len(names), 1), vocabulary, torch.arange(len(names)))


def scene_folder(
    folder: Path, image_size: int, cache: Path, labels_folder: Path | None = None, allow_links: bool = False
) -> LabelledImages:
    """Return the images that `train.json` names, in its order, with the label sets it gives them.

    Images whose names differ only in the number after the last "_" show one scene and form a group. Standard error
    says how many images of the folder train.json does not name.

    Args:
        folder: holds the images.
        image_size: side of the images returned, in pixels.
        cache: folder for the decoded pixels.
        labels_folder: holds objects.json and train.json; None for the place that `scene_labels` returns.
        allow_links: whether links out of the folder are followed.

    Raises:
        LabError: a JSON file is missing or wrong, or an image is missing, unreadable or outside the folder.
    """
    vocabulary = scene_vocabulary(folder, labels_folder)
    place = scene_labels(folder, labels_folder)
    if not _has(place, "train.json"):
        raise LabError(
            f"{place}: no train.json, which names the images; copy i-CLEVR's files, give --data.folder or "
            f"--data.labels-folder, or render:\npython run_experiments.py render-scenes --out {folder} --scenes 6003"
        )
    if place not in (folder, labels_folder):
        _say(f"{folder}: objects.json and train.json are read from {place}")
    labels = load_image_labels(place / "train.json", vocabulary)
    if unnamed := _unnamed_images(folder, labels):
        _say(f"{folder}: skipped {_counted(unnamed, 'image')} that train.json does not name")
    pixels = cached_pixels(folder, tuple(labels), image_size, cache, allow_links)
    return LabelledImages(pixels, vocabulary.conditions(tuple(labels.values())), vocabulary, scene_groups(labels))


def scene_labels(folder: Path, labels_folder: Path | None = None) -> Path:
    """Return the folder of a scene folder's JSON files: `labels_folder`, or where `train.json` is.

    That is the first of the folder itself, the folder above it, and `file/` beside it that holds one, as the
    coursework is handed out; the folder itself if none does.
    """
    if labels_folder is not None:
        return labels_folder
    # By its name, because the folder may be a link to a shared one; "." and ".." have names this way.
    above = Path(os.path.abspath(folder)).parent  # noqa: PTH100  # resolve() would follow the link
    return next((place for place in (folder, above, above / "file") if _has(place, "train.json")), folder)


def _has(folder: Path, name: str) -> bool:
    try:
        return (folder / name).exists()
    except OSError:  # a folder that may not be looked into
        return False


def scene_vocabulary(folder: Path, labels_folder: Path | None = None) -> ClassVocabulary:
    """Return the classes in the `objects.json` that lies with a scene folder's `train.json`.

    Raises:
        LabError: the file is missing or wrong.
    """
    place = scene_labels(folder, labels_folder)
    if labels_folder is None and not any(_has(place, name) for name in ("objects.json", "train.json")):
        raise LabError(
            f"{folder}: no objects.json and train.json in this folder, above it, or in file/ beside it;\n"
            f"--data.folder says where the images are, --data.labels-folder where these two are"
        )
    return load_vocabulary(place / "objects.json")


def _unnamed_images(folder: Path, names: Iterable[str]) -> int:
    """Count the images that no name leads to, in the folders that the names lead to."""
    named = {posixpath.normpath(name) for name in names}
    heads = {""} | {posixpath.dirname(name) for name in named if not name.startswith(("/", ".."))}
    count = 0
    for head in heads:
        with suppress(OSError, ValueError):  # a folder that is not there or cannot be: its images are missing
            count += sum(
                _is_image(entry.name) and posixpath.join(head, entry.name) not in named and entry.is_file()
                for entry in os.scandir(folder / head)
            )
    return count


def class_folders(folder: Path, image_size: int, cache: Path, allow_links: bool = False) -> LabelledImages:
    """Return the images of a folder with one folder per class, one label per image.

    Standard error says what is skipped, apart from hidden files: files whose ending is no image's, folders in a
    class folder, and images outside the class folders.

    Args:
        folder: its folders are the classes.
        image_size: side of the images returned, in pixels.
        cache: folder for the decoded pixels.
        allow_links: whether links out of the folder are followed.

    Raises:
        LabError: no class folder, one without images, or an image is unreadable or outside the folder.
    """
    vocabulary = class_folder_vocabulary(folder)
    names, classes, others = [], [], []
    for index, class_folder in enumerate(_class_folders(folder)):
        entries = _visible(class_folder)
        files = [file.name for file in entries if _is_image(file.name)]
        if not files:
            raise LabError(f"{class_folder}: this class folder has no images ({', '.join(SUFFIXES)})")
        names += [f"{class_folder.name}/{file}" for file in files]
        classes += [index] * len(files)
        others += [entry for entry in entries if not _is_image(entry.name)]
    subfolders = sum(entry.is_dir() for entry in others)
    endings = sorted({entry.suffix.lower() or "none" for entry in others if not entry.is_dir()})
    outside = sum(_is_image(entry.name) and entry.is_file() for entry in _visible(folder))
    passed_over = (
        (len(others) - subfolders, "file", f" of other endings ({', '.join(endings[:5])})"),
        (subfolders, "subfolder", ""),
        (outside, "image", " outside the class folders"),
    )
    if counted := [f"{_counted(count, noun)}{which}" for count, noun, which in passed_over if count]:
        _say(f"{folder}: skipped {' and '.join(counted)}")
    pixels = cached_pixels(folder, names, image_size, cache, allow_links)
    return one_label_images(pixels, torch.tensor(classes), vocabulary)


def _is_image(name: str) -> bool:
    return not name.startswith(".") and PurePath(name).suffix.lower() in SUFFIXES


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _say(line: str) -> None:
    tqdm.write(printable(line), file=sys.stderr)


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
        raise LabError(f"{folder}: no class folder in it; it must hold one folder of images per class")
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


def cached_pixels(
    folder: Path, names: Sequence[str], image_size: int, cache: Path, allow_links: bool = False
) -> PixelImages:
    """Return the images of these names as RGB pixels, memory-mapped from the cache, decoding them where it has none.

    The cache's file is named after a digest of the side, and of every file's name, size and time of change: what was
    decoded from other files is never taken for these.

    Args:
        folder: the images must lie in it.
        names: of the images, relative to the folder.
        image_size: side of the images returned, in pixels.
        cache: folder for the decoded pixels.
        allow_links: whether links out of the folder are followed. Names that lead out are refused all the same.

    Returns:
        (N, 3, image_size, image_size). Writing to them changes neither the cache nor other mappings of it.

    Raises:
        LabError: images are missing, unreadable or outside the folder; the message counts them and names the first.
    """
    files = _inspected(folder, names, allow_links)
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


OUT_BY_LINK = Refused("outside the folder", "it is behind a link out of the folder")


def _inspected(folder: Path, names: Sequence[str], allow_links: bool) -> list[tuple[int, int] | Refused]:
    """Return each file's (size in bytes, time of change in ns), or why it is not to be read; opens no file."""
    root = folder.resolve()

    def is_allowed(path: Path) -> bool:
        return allow_links or path.resolve().is_relative_to(root)

    @remembered  # paths are slow, and thousands of images share their folder
    def parent(head: str) -> Path | Refused:
        relative = PurePath(head)
        if relative.is_absolute() or ".." in relative.parts:
            return Refused("outside the folder", "it leads out of the folder")
        return root / relative if is_allowed(root / relative) else OUT_BY_LINK

    def inspected(name: str) -> tuple[int, int] | Refused:
        head, tail = posixpath.split(name)
        try:
            within = parent(head if tail != ".." and os.sep not in tail else "..")
            if isinstance(within, Refused):
                return within
            path = f"{within}/{tail}"
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                if not is_allowed(Path(path)):
                    return OUT_BY_LINK
                status = Path(path).stat()
        except (OSError, ValueError, RuntimeError) as error:  # also a name no file can have, and a link to itself
            return Refused("missing", (error.strerror if isinstance(error, OSError) else None) or str(error))
        if not stat.S_ISREG(status.st_mode):
            return Refused("unreadable", "it is not a file")
        return status.st_size, status.st_mtime_ns

    return [inspected(name) for name in names]


def _decode(
    folder: Path, names: Sequence[str], files: Sequence[tuple[int, int] | Refused], shape: tuple[int, ...], path: Path
) -> None:
    """Write the cache file of these images, whole or not at all; refused images are counted to the end."""

    def decoded(name: str, file: tuple[int, int] | Refused) -> UInt8[np.ndarray, "3 side side"] | Refused:
        return file if isinstance(file, Refused) else decoded_image(folder / name, shape[-1])

    refused: list[tuple[str, Refused]] = []
    # Threads, for Pillow lets go of Python's lock while it decodes. Written as they come, the pixels need no memory.
    with whole_file(path) as temporary, temporary.open("wb") as output, ThreadPool() as pool:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(output, header)
        images = pool.imap(lambda image: decoded(*image), zip(names, files, strict=True), chunksize=16)
        for name, image in zip(names, tqdm(images, desc="decoding", total=len(names), unit="image"), strict=True):
            if isinstance(image, Refused):
                refused.append((name, image))
            else:
                output.write(image.tobytes())
        if refused:
            counts = Counter(image.kind for _, image in refused)
            reasons = ", ".join(f"{count} {kind}" for kind, count in counts.items())
            name, first = refused[0]
            raise LabError(
                f"{folder}: {len(refused)} of {len(names)} images cannot be used: {reasons}\n"
                f"the first is {name!r} ({first.reason}); {_remedy(folder, refused)}"
            )


def _remedy(folder: Path, refused: Sequence[tuple[str, Refused]]) -> str:
    """Return what to do about images that cannot be used."""
    if any(why == OUT_BY_LINK for _, why in refused):
        return "to follow links out of the folder, add --data.allow-links"
    name, first = refused[0]
    if first.kind == "missing":
        with suppress(OSError, ValueError):
            for place in sorted(folder.iterdir()):
                if place.is_dir() and (place / name).is_file():
                    return f"this one is in {place}: give that as --data.folder"
    return "put them right, or leave them out"
