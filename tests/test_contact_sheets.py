"""Contact sheets: all images of each label-set file at the best row, in a picture and as single PNG files."""

import string
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from evaluator.classifiers.pictures import numbered_pictures
from evaluator.judging.cells import JudgedCell
from evaluator.judging.scoring import score
from evaluator.reporting.canvas import DPI
from evaluator.reporting.contact_sheets import (
    FONT_SIZE,
    LINES,
    SHOWN,
    ContactSheet,
    broken,
    label_lines,
    measure_of,
    resized,
    write_contact_sheets,
)
from lab.configuration.data import DataConfig
from lab.data.labels import ClassVocabulary, LabelSet
from lab.errors import LabError
from tests.hostile import cases

COLOURS = ClassVocabulary(("red cube", "blue cube", "brown cylinder"))
VERMILLION = (213, 94, 0)


def sheet(name: str = "test", images: int = 12, channels: int = 3, side: int = 8, wrong: int = 0) -> ContactSheet:
    """Return a sheet of random images of which the first ones are wrong in one of their two labels."""
    pixels = torch.randint(0, 256, (images, channels, side, side), generator=torch.Generator().manual_seed(images))
    missed = [frozenset(["red cube"] if number < wrong else ()) for number in range(images)]
    return ContactSheet(name, pixels.to(torch.uint8), [("red cube", "brown cylinder")] * images, missed, 1)


def test_a_sheet_is_the_first_seeds_and_knows_which_labels_are_missed() -> None:
    asked: list[LabelSet] = [("red cube",), ("blue cube", "brown cylinder")] * 3
    seen: list[LabelSet] = [("blue cube",), ("blue cube", "red cube"), *asked[2:]]
    pixels = torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1).expand(6, 1, 8, 8)
    logits = COLOURS.conditions(seen) * 2 - 1
    cell = JudgedCell({"label_set": "test", "seeds": 3}, {}, asked, lambda: pixels, logits)
    found = ContactSheet.of(cell, score(logits, COLOURS.conditions(asked)), COLOURS.names)
    assert torch.equal(found.pixels, pixels[:2])
    assert found.label_sets == asked[:2]
    assert found.missed == [frozenset(["red cube"]), frozenset(["brown cylinder"])]
    assert found.heading == "test.json (seed 0 of 3): 1 of 3 labels seen"
    assert "All 2 images of test.json, seed 0 of 3, at the best row" in found.caption


def test_what_earlier_label_set_files_left_is_removed(tmp_path: Path) -> None:
    write_contact_sheets(tmp_path, "a run", [sheet("test", 9), sheet("old", 3)])
    (tmp_path / "samples.png").write_bytes(b"another figure")
    write_contact_sheets(tmp_path, "a run", [sheet("test", 4), sheet("new [1]", 5, channels=1)])
    assert {path.name for path in tmp_path.iterdir()} == {
        "images", "images_test.png", "images_new [1].png", "samples.png",
    }  # fmt: skip
    found = {str(path.relative_to(tmp_path / "images")) for path in (tmp_path / "images").rglob("*.png")}
    assert found == {f"test/{number}.png" for number in range(4)} | {f"new [1]/{number}.png" for number in range(5)}
    expected = sheet("test", 4).pixels
    assert torch.equal(numbered_pictures(tmp_path / "images" / "test", 4, (3, 8, 8)), expected)


@pytest.mark.parametrize(("images", "columns"), [(32, 8), (64, 8), (70, 10)])
def test_wrong_images_have_a_coloured_frame_and_right_ones_none(tmp_path: Path, images: int, columns: int) -> None:
    write_contact_sheets(tmp_path, "a run", [sheet("right", images), sheet("wrong", images, wrong=1)])
    with Image.open(tmp_path / "images_right.png") as right, Image.open(tmp_path / "images_wrong.png") as wrong:
        for picture in (right, wrong):
            assert abs(picture.width - 1100) < 60
        of_right, of_wrong = (np.asarray(picture.convert("RGB")) for picture in (right, wrong))
    assert not (of_right == VERMILLION).all(axis=2).any()
    marked = (of_wrong == VERMILLION).all(axis=2).any(axis=0)
    # Only in the first column.
    assert marked[: 1100 // columns].any()
    assert not marked[1100 // columns + 10 :].any()
    # A cross stands in the corner of the frame: white within the colour.
    rows, across = np.nonzero((of_wrong == VERMILLION).all(axis=2))
    corner = of_wrong[rows.min() : rows.min() + 22, across.max() - 22 : across.max()]
    assert (corner > 240).all(axis=2).sum() > 20


def test_pixels_are_drawn_as_they_are(tmp_path: Path) -> None:
    one = sheet("test", 8, side=28)
    write_contact_sheets(tmp_path, "a run", [one])
    with Image.open(tmp_path / "images_test.png") as picture:
        drawn = np.asarray(picture.convert("RGB"))
    # 28 pixels are drawn as 112: the picture holds every image's middle row of pixels, one row of them in four.
    for image in one.pixels:
        middle = image[:, 14].T.numpy()[8:20].repeat(4, axis=0)
        windows = np.lib.stride_tricks.sliding_window_view(drawn, len(middle), axis=1)
        assert (windows == middle.T).all(axis=(2, 3)).any()


@pytest.mark.parametrize(
    ("side", "expected"), [(8, 120), (28, 112), (32, 128), (64, 128), (48, 96), (100, 100), (256, 123)]
)
def test_images_are_drawn_in_whole_multiples_or_shrunk(side: int, expected: int) -> None:
    for channels in (1, 3):
        assert resized(np.zeros((side, side, channels), dtype=np.uint8), 1100 // 8 - 14).shape == (
            expected,
            expected,
            3,
        )


@cases(100)
@given(
    text=st.text(st.sampled_from(string.printable + "$\\WMé\N{MULTIPLICATION SIGN}"), max_size=60)
    | st.text(max_size=20)
)
@pytest.mark.filterwarnings("ignore:Glyph")
def test_no_line_is_wider_than_its_column(text: str) -> None:
    measure = measure_of(Figure(dpi=DPI), FONT_SIZE)
    lines = broken(text, 90, measure)
    assert all(measure(line) <= 90 for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_label_lines_of_many_labels_end_in_dots() -> None:
    names = tuple(string.ascii_lowercase[:9])
    measure = measure_of(Figure(dpi=DPI), FONT_SIZE)
    assert label_lines(names[:3], frozenset("b"), 90, measure) == [
        ("a", False),
        ("\N{MULTIPLICATION SIGN} b", True),
        ("c", False),
    ]
    lines = label_lines(names, frozenset("h"), 90, measure)
    assert len(lines) == LINES
    assert lines[-1] == ("\N{MULTIPLICATION SIGN} ...", True)
    assert label_lines(names, frozenset("a"), 90, measure)[-1] == ("...", False)


def test_the_coursework_longest_labels_take_a_line_each() -> None:
    measure = measure_of(Figure(dpi=DPI), FONT_SIZE)
    names = ("brown cylinder", "purple cylinder", "yellow cylinder")
    assert len(label_lines(names, frozenset(names), 134, measure)) == 3


def test_of_very_many_images_the_first_are_drawn_and_all_are_written(tmp_path: Path) -> None:
    many = sheet("test", SHOWN + 5)
    write_contact_sheets(tmp_path, "a run", [many])
    assert many.caption.startswith(f"The first {SHOWN} of {SHOWN + 5} images of test.json")
    assert len(list((tmp_path / "images" / "test").iterdir())) == SHOWN + 5


@pytest.mark.parametrize("name", ["..json", "...json"])
def test_a_file_whose_name_is_no_folders_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="cannot name a folder of images; rename"):
        DataConfig(label_sets=(Path("data") / name,))
