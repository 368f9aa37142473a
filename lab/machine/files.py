"""Atomic writing of files and folders, and verified reading of tensor files.

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
"""torch.serialization.MAGIC_NUMBER, pickled: the first object in files of torch before 1.6."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and move the file written there to `path` at the end of the block.

    If the block fails or the process dies, the old file stays unchanged. Missing folders are created.

    Raises:
        LabError: the path has no file name, the folder is not writable, or the disk is full.
    """
    if not path.name:
        raise LabError(f"{path} has no file name; add one")
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
    """Create a folder if it is missing, and write a file there and delete it.

    Raises:
        LabError: the folder is not writable, or the disk is full.
    """
    if folder.exists() and not folder.is_dir():
        raise LabError(f"{folder} is a file, but must be a folder; move the file or choose another folder")
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
    """Raise LabError unless a file can be written at this path. Create its folder; leave an existing file unchanged.

    Call it before computing the file's content.
    """
    if path.is_dir() and path.name:
        raise LabError(f"{path} is a folder; add a file name")
    if not path.name:
        raise LabError(f"{path} has no file name; add one")
    require_writable(path.parent)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary empty folder beside `folder`, and move it to `folder` at the end of the block.

    An existing folder is replaced, with all its files. If the block fails, the existing folder stays unchanged.

    Raises:
        LabError: the folder is not writable, or the disk is full.
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
    """Raise LabError unless `whole_folder` can create this folder without removing files: it is new or empty."""
    if not folder.name or folder.resolve() == Path.cwd() or folder.is_symlink() or folder.is_mount():
        raise LabError(f"{folder}: this folder cannot be replaced; choose a new folder")
    try:
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise LabError(f"{folder}: cannot be read ({error.strerror or error}); choose a new folder") from None
    if taken:
        raise LabError(f"{folder} exists and is not an empty folder; choose a new folder or empty this one")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders that killed processes left below a folder. The caller holds its lock.

    Raises:
        LabError: a file cannot be removed.
    """
    left = list(folder.rglob(".*.partial"))
    for path in left:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
    remove_all(path for path in left if not path.is_dir())


def remove_all(paths: Iterable[Path]) -> None:
    """Remove files; a missing file is not an error.

    Raises:
        LabError: a file cannot be removed.
    """
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise LabError(f"{path}: cannot be removed ({error.strerror or error})") from None


def _sync_folder(folder: Path) -> None:
    """Make a rename in this folder survive a power cut, on systems that can open folders (not Windows)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_tensors(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and primitives to a torch file atomically."""
    import torch

    # Through an open file: torch writes a path's name into the content, and the same tensors must give the same bytes.
    with whole_file(path) as temporary, temporary.open("wb") as file:
        torch.save(content, file)


def load_tensors(path: Path, noun: str, remedy: str) -> dict[str, Any]:
    """Read a torch file of tensors and primitives onto the CPU, without running code from it.

    torch does not check the zip's checksums, so a flipped bit would load without an error. This function checks them
    first. Files of torch before 1.6, as the coursework may provide, are not zips and have no checksums; they are read
    unchecked.

    Args:
        path: the file.
        noun: what the file should be, for the message.
        remedy: what to do if the file is damaged, for the message.

    Raises:
        LabError: the file is missing, damaged or of the wrong kind, or holds more than tensors and primitives.
    """
    import torch

    try:
        kind = other_kind(path)
    except FileNotFoundError:
        raise LabError(f"{path}: no such {noun}") from None
    except (OSError, ValueError) as error:  # ValueError: the path contains a null character
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise LabError(f"{path}: this {noun} cannot be read ({reason})") from None
    if kind is not None:
        raise LabError(f"{path}: this {noun} is {kind}")
    try:
        checked = path if _is_legacy(path) else _checked_zip(path)
        content = torch.load(checked, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        name = f" ({code[1]:.80})" if code else ""
        raise LabError(
            f"{path}: this {noun} holds more than tensors and primitives{name}, and was not loaded;\n"
            f"it may hold only tensors, numbers and text, like a state_dict"
        ) from None
    # zipfile, pickle and torch raise many types of error for a file that is truncated, corrupt or encrypted.
    except Exception as error:
        reason = lines_of(error)[0]
        raise LabError(f"{path}: this {noun} is damaged or not a torch file ({reason:.120}); {remedy}") from None
    if not isinstance(content, dict):
        raise LabError(f"{path}: this {noun} holds a {type(content).__name__}; it must hold a dictionary")
    return content


def require_keys(path: Path, noun: str, content: dict[str, Any], keys: Iterable[str]) -> None:
    """Raise LabError if a file's content lacks one of these keys. The message names it and lists the keys present.

    Args:
        path: the file.
        noun: what the file should be, for the message.
        content: the content of the file.
        keys: the required keys.
    """
    for key in keys:
        if key not in content:
            raise LabError(f"{path}: this {noun} is incomplete: it has no {key!r}; its keys are {listed(content)}")


def _checked_zip(path: Path) -> BytesIO:
    """Check the checksums of the files in a zip, and return the files as a new zip.

    The zip's directory has no checksum, and torch's reader trusts it: a flipped bit that marks a tensor's file as a
    folder would leave that tensor uninitialised. The new zip has a new directory.

    Raises:
        zipfile.BadZipFile: a checksum is wrong, a name occurs twice, or a file is compressed, which torch never does.
    """
    rewritten = BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(rewritten, "w") as copy:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED or entry.filename in copy.namelist():
                raise zipfile.BadZipFile(f"torch did not write {entry.filename}")
            copy.writestr(entry.filename, archive.read(entry))
    rewritten.seek(0)
    return rewritten


def _is_legacy(path: Path) -> bool:
    """Whether a file begins with the pickled magic number of torch before 1.6."""
    with path.open("rb") as file:
        return file.read(len(LEGACY_MAGIC)) == LEGACY_MAGIC


def require_format(path: Path, found: object, readable: int, keys: str = "") -> None:
    """Raise LabError unless a file has the format that this version of the lab reads.

    Each kind of file has its own format number, which increases when the meaning of the content changes.

    Args:
        path: the file.
        found: the file's format number, or None.
        readable: the format number that this version reads.
        keys: the keys of the file, for the message about a file without a format number.
    """
    if found != readable:
        has = f"format {found}" if isinstance(found, int) else "no format number"
        if keys and not isinstance(found, int):
            has += f" (its keys are {keys})"
        raise LabError(
            f"{path}: this file has {has}, but this version of the lab reads format {readable}; "
            f"read it with the version that wrote it, or create it again"
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
