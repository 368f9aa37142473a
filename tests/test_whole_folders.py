"""Folders that are put in place as a whole, and what killed processes leave of them."""

from pathlib import Path

import pytest

from lab.errors import LabError
from lab.machine.files import remove_leftovers, require_new_folder, whole_folder


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def write(folder: Path, **files: str) -> None:
    with whole_folder(folder) as temporary:
        for name, text in files.items():
            (temporary / name).write_text(text)


def test_a_folder_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    write(folder := tmp_path / "new" / "images", one="1", two="2")
    assert content(folder) == {"one": "1", "two": "2"}
    write(folder, two="3")
    assert content(tmp_path) == {"new/images/two": "3"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, LabError, RuntimeError])
def test_a_block_that_fails_leaves_the_folder_as_it_was(tmp_path: Path, error: type[BaseException]) -> None:
    write(folder := tmp_path / "images", one="1")

    def fail(folder: Path) -> None:
        with whole_folder(folder) as temporary:
            (temporary / "two").write_text("2")
            raise error

    for each in (folder, tmp_path / "other"):
        with pytest.raises(error):
            fail(each)
    assert content(tmp_path) == {"images/one": "1"}
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_a_folder_that_cannot_be_put_in_place_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder := tmp_path / "images", one="1")
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path.name.endswith(".partial") and "former" not in path.name:
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(LabError, match="images: cannot write .No space left on device.; free some space"):
        write(folder, two="2")
    assert content(tmp_path) == {"images/one": "1"}


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".images.123.partial" / "test").mkdir(parents=True)
    (tmp_path / ".images.123.partial" / "test" / ".0.png.4.partial").write_text("")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / ".images.123.former.partial").mkdir()
    (tmp_path / "below" / ".ranking.csv.123.partial").write_text("")
    (tmp_path / "below" / "ranking.csv").write_text("kept")
    remove_leftovers(tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} == {"below", "below/ranking.csv"}


def test_a_new_folder_is_new_or_empty(tmp_path: Path) -> None:
    require_new_folder(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    require_new_folder(tmp_path / "empty")
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "file").write_text("")
    for taken in (tmp_path, tmp_path / "file", tmp_path / "link", Path(), Path("/")):
        with pytest.raises(LabError, match="choose a new"):
            require_new_folder(taken)
