"""Recognises the wrong kind of file. A failed download can leave a file with the right name and other content.

That content is a Git LFS pointer, a web page, nothing, or an archive around the file. Importing this does not import
torch.
"""

import codecs
import re
import zipfile
from pathlib import Path, PurePosixPath

LFS_POINTER = (b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/")
ARCHIVES = {b"\x1f\x8b": "a gzip archive", b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive", b"Rar!\x1a\x07": "a RAR archive"}
"""The first bytes of archives. No file of the lab begins with them."""
TORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".tar")
HEAD = 4096
"""Number of bytes read to recognise a file."""


def other_kind(path: Path) -> str | None:
    """Return what a wrong file is and what to do, to complete "this file is ...", or None if no problem is recognised.

    Raises:
        OSError: the file is missing or cannot be read.
    """
    path.stat()
    if not path.is_file():
        return "a folder, not a file" if path.is_dir() else "not a regular file"
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head:
        return "empty (a damaged copy); download or copy it again"
    if head.startswith(LFS_POINTER):
        return "a Git LFS pointer, not the file itself; fetch the file with: git lfs pull"
    for magic, name in ARCHIVES.items():
        if head.startswith(magic):
            return f"{name}; unpack it and name the file inside"
    if head[257:262] == b"ustar":
        return "a tar archive; unpack it and name the file inside"
    return _text(head) or _zip(path)


def _text(head: bytes) -> str | None:
    """Return what a text file is, or None if these bytes are not text."""
    try:
        # Incremental, because the head may end in the middle of a character.
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head).lstrip()
    except UnicodeDecodeError:
        return None
    if text.startswith(("<!", "<html", "<HTML", "<?xml", "<head")):
        title = re.search(r"<title[^>]*>\s*(.*?)\s*</title", text, re.IGNORECASE | re.DOTALL)
        titled = f" with the title {' '.join(title[1].split())[:80]!r}" if title else ""
        return f"a web page{titled}, not the file itself; download it again"
    if text and all(character.isprintable() or character.isspace() for character in text):
        return f"text that begins with {text.splitlines()[0][:50]!r}; download or copy it again"
    return None


def _zip(path: Path) -> str | None:
    """Return what a ZIP archive is, or None if the file is not one or is one that torch wrote."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/") and "__MACOSX/" not in name]
    except Exception:  # zipfile raises many types of error for a damaged file or one that is not an archive
        return None
    inside = {PurePosixPath(name).name for name in names}
    if "data.pkl" in inside:
        program = "a TorchScript program, which contains code; save a state_dict with torch.save instead"
        return program if "constants.pkl" in inside else None
    files = [name for name in names if name.lower().endswith(TORCH_SUFFIXES)] or names
    if not files:
        return "a ZIP archive without files; download or copy it again"
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"a ZIP archive that contains {files[0]!r:.80}{more}; unpack it and name the file inside"
