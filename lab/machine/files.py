"""Files that are whole or absent, and tensor files that are what was written or an error.

Importing this does not import torch.
"""

import errno
import hashlib
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from lab.errors import LabError, lines_of, listed
from lab.machine.file_kinds import other_kind

LEGACY_MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
"""torch.serialization.MAGIC_NUMBER, as the first object in files of torch before 1.6."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and put what was written there in its place once the block is done.

    A block that fails, or a process that dies in it, leaves the old file as it was. Folders are made as needed.

    Raises:
        LabError: the path names no file, the folder cannot be written to, or the disk is full.
    """
    if not path.name:
        raise LabError(f"{path} names no file; add a file's name")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb+") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
            _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot_write(path, error) from None


def _cannot_write(path: Path, error: OSError) -> LabError:
    advice = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "choose another folder"
    return LabError(f"{path}: cannot write ({error.strerror or error}); {advice}")


def require_writable(folder: Path) -> None:
    """Try to write to a folder, made as needed, and leave no file there.

    Raises:
        LabError: the folder cannot be written to, or the disk is full.
    """
    if folder.exists() and not folder.is_dir():
        raise LabError(f"{folder} is a file, and must be a folder; move it away, or choose another")
    attempt = folder / f".attempt.{os.getpid()}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            attempt.write_bytes(bytes(1024))
        finally:
            attempt.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot_write(folder, error) from None


def require_writable_file(path: Path) -> None:
    """Raise LabError unless a file can be written here, before anything is computed for it; make its folder.

    A file that is there already stays as it is.
    """
    if path.is_dir() and path.name:
        raise LabError(f"{path} is a folder; add a file's name")
    if not path.name:
        raise LabError(f"{path} names no file; add a file's name")
    require_writable(path.parent)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder`, and put it in its place once the block is done.

    A folder that was there before is removed with all it held. A block that fails leaves that folder as it was.

    Raises:
        LabError: the folder cannot be written to, or the disk is full.
    """
    temporary, former = (folder.with_name(f".{folder.name}.{os.getpid()}{end}.partial") for end in ("", ".former"))
    try:
        temporary.mkdir(parents=True)
        try:
            yield temporary
            for path in filter(Path.is_file, temporary.rglob("*")):
                with path.open("rb+") as written:
                    os.fsync(written.fileno())
            if folder.exists():
                folder.rename(former)
            temporary.rename(folder)
            _sync_folder(folder.parent)
        finally:
            if former.exists() and not folder.exists():
                former.rename(folder)
            for left in (temporary, former):
                shutil.rmtree(left, ignore_errors=True)
    except OSError as error:
        advice = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "choose another folder"
        raise LabError(f"{folder}: cannot write ({error.strerror or error}); {advice}") from None


def require_new_folder(folder: Path) -> None:
    """Raise LabError unless `whole_folder` can make this folder without removing anything: it is new, or empty."""
    if not folder.name or folder.resolve() == Path.cwd() or folder.is_symlink() or folder.is_mount():
        raise LabError(f"{folder}: cannot be put in place as a whole; choose a new folder")
    try:
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise LabError(f"{folder}: cannot be read ({error.strerror or error}); choose a new folder") from None
    if taken:
        raise LabError(f"{folder} is there and not an empty folder; choose a new one, or empty it")


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes had begun to write below a folder, which must be locked.

    Raises:
        LabError: the folder cannot be written to.
    """
    left = list(folder.rglob(".*.partial"))
    for path in left:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
    remove_all(path for path in left if not path.is_dir())


def remove_all(paths: Iterable[Path]) -> None:
    """Remove files that may be gone already.

    Raises:
        LabError: one cannot be removed.
    """
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise LabError(f"{path}: cannot be removed ({error.strerror or error})") from None


def _sync_folder(folder: Path) -> None:
    """Make a rename in this folder survive a power cut, where the system can open folders (Windows cannot)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_tensors(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and primitives as a torch file, whole or not at all."""
    import torch

    # Through an open file, because torch writes the name of a path into the content: the same tensors must give the
    # same bytes.
    with whole_file(path) as temporary, temporary.open("wb") as file:
        torch.save(content, file)


def load_tensors(path: Path, noun: str, remedy: str) -> dict[str, Any]:
    """Read a torch file of tensors and primitives onto the CPU, running no code from it.

    torch itself loads a flipped bit in silence, so it is handed what the checksums of the zip vouch for. Files of torch
    before 1.6, which the coursework may still hand out, are no zips and have no checksums; they are read as they are.

    Args:
        path: the file.
        noun: what it should be, for the message.
        remedy: what to do where it is damaged, for the message.

    Raises:
        LabError: the file is missing, damaged, of another kind, or holds anything but tensors and primitives.
    """
    import torch

    try:
        kind = other_kind(path)
    except FileNotFoundError:
        raise LabError(f"{path}: no such {noun}") from None
    except (OSError, ValueError) as error:  # also a name that no file can have
        told = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise LabError(f"{path}: this {noun} cannot be read ({told})") from None
    if kind is not None:
        raise LabError(f"{path}: this {noun} is {kind}")
    try:
        whole = path if _is_legacy(path) else _vouched_for(path)
        content = torch.load(whole, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        held = f" ({code[1]:.80})" if code else ""
        raise LabError(
            f"{path}: this {noun} holds more than tensors and primitives{held}, and was not loaded;\n"
            f"allowed are tensors, numbers and text, such as a state_dict"
        ) from None
    # Of a file that is cut, flipped, encrypted or no archive, zipfile, pickle and torch raise nearly anything.
    except Exception as error:
        told = lines_of(error)[0]
        raise LabError(f"{path}: this {noun} is damaged or not a torch file ({told:.120}); {remedy}") from None
    if not isinstance(content, dict):
        raise LabError(f"{path}: this {noun} holds a {type(content).__name__}; a dictionary was expected")
    return content


def require_keys(path: Path, noun: str, content: dict[str, Any], keys: Iterable[str]) -> None:
    """Raise LabError, naming a key that is missing and those that are there, unless a file's content has all of these.

    Args:
        path: the file.
        noun: what it should be, for the message.
        content: of the file.
        keys: that it needs.
    """
    for key in keys:
        if key not in content:
            raise LabError(f"{path}: this {noun} is incomplete: it has no {key!r}; its keys are {listed(content)}")


def _vouched_for(path: Path) -> BytesIO:
    """Return a zip of the files in a zip whose checksums are right, written anew.

    The zip's own book-keeping has no checksum, and torch's reader trusts it: one bit that calls a tensor's file a
    folder leaves that tensor to whatever the memory held.

    Raises:
        zipfile.BadZipFile: a checksum is wrong, a name stands twice, or a file is compressed, as torch's never are.
    """
    anew = BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(anew, "w") as copy:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED or entry.filename in copy.namelist():
                raise zipfile.BadZipFile(f"{entry.filename} is not as torch writes it")
            copy.writestr(entry.filename, archive.read(entry))
    anew.seek(0)
    return anew


def _is_legacy(path: Path) -> bool:
    """Tell whether a file begins with the pickled magic number of torch before 1.6."""
    with path.open("rb") as file:
        return file.read(len(LEGACY_MAGIC)) == LEGACY_MAGIC


def require_format(path: Path, found: object, readable: int, keys: str = "") -> None:
    """Raise LabError unless a file is of the format that this version of the lab reads.

    Each kind of file has a format number of its own, raised when what the file holds changes its meaning.

    Args:
        path: the file.
        found: the format it says it has, or None.
        readable: the format that can be read.
        keys: what the file holds, to name it where it has no format number.
    """
    if found != readable:
        has = f"format {found}" if isinstance(found, int) else "no format number"
        if keys and not isinstance(found, int):
            has += f" (its keys are {keys})"
        raise LabError(
            f"{path}: this file has {has}, and this version of the lab reads format {readable}; "
            f"read it with the version that wrote it, or make it again"
        )


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's content, as 16 hexadecimal digits.

    Raises:
        LabError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise LabError(f"{path}: cannot be read ({error.strerror or error})") from None
