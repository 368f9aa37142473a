"""The page of a report: its contents, its size and what it leaves out."""

import json
import re
import weakref
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from evaluator.judging.cells import JudgedCell
from evaluator.reporting.page.comparison import joined
from evaluator.reporting.page.contents import SAMPLED_CELLS, contents
from evaluator.reporting.page.document import RESERVED, SCRIPTS, document, write_page
from evaluator.reporting.page.selection import Sweep, evenly
from evaluator.reporting.page.sprites import sprite_sheet
from lab.types import PixelImages
from tests.pages import HOSTILE, WEIGHTS, a_page, level, levels_of

MEBIBYTE = 2**20


class Scripts(HTMLParser):
    """Collect what a browser takes for scripts, and every attribute that could fetch or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.active: list[tuple[str, str | None]] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "script":
            self.scripts.append("")
        self.active += [each for each in attrs if each[0] in ("src", "href", "srcset", "action") or each[0][:2] == "on"]

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "script":
            self.scripts[-1] += data


def decoded(text: str) -> bytes:
    return b64decode(text, validate=True)


def test_every_image_is_found_where_the_page_looks_for_it() -> None:
    shown = contents(a_page())
    assert len(shown["cells"]) == 24
    for cell in shown["cells"]:
        sheet = np.asarray(Image.open(BytesIO(decoded(cell["sheet"]))))
        weight = [-1.0, 0.0, 2.0].index(cell["weight"])
        place = (cell["checkpoint"], cell["method"], cell["file"], weight)
        expected = [level(*place, seed, label_set) for seed in (0, 1) for label_set in range(3)]
        assert levels_of(sheet)[:6] == expected
    assert shown["left_out"] == []


def test_the_page_says_what_the_evaluator_saw() -> None:
    shown = contents(a_page())
    unconditional, conditional, guided = shown["cells"][:3]
    # The likeliest class of the first image, which was asked to show class 0.
    assert [decoded(cell["seen"])[0] for cell in (unconditional, conditional, guided)] == [1, 1, 0]
    assert decoded(unconditional["probabilities"])[0] == round(255 / (1 + np.exp(-3.0)))
    correct = [list(decoded(cell["correct"])) for cell in (unconditional, conditional, guided)]
    assert correct == [[0, 2, 1, 0, 2, 1], [0, 2, 1, 1, 2, 1], [1, 2, 1, 1, 2, 1]]
    assert guided["accuracy"][0] == 1.0


def test_denoising_is_of_seed_0() -> None:
    # The moments have five images, the file three label sets.
    shown = contents(a_page())["denoising"]
    assert (shown["images"], shown["steps"], shown["timesteps"]) == (3, [0, 1, 2, 3], [9, 6, 3, -1])
    sheet = np.asarray(Image.open(BytesIO(decoded(shown["sheet"]))))
    assert levels_of(sheet)[:12] == [0, 0, 0, 50, 50, 50, 100, 100, 100, 150, 150, 150]


def test_images_are_left_out_evenly_and_the_page_says_so(tmp_path: Path) -> None:
    page = a_page(seeds=40, side=16, noise=True, quality=False)
    write_page(tmp_path / "all.html", page)
    whole = (tmp_path / "all.html").stat().st_size
    write_page(tmp_path / "part.html", page, largest=whole // 2)
    text = (tmp_path / "part.html").read_text(encoding="utf-8")
    part = json.loads(Scripts(text).scripts[0])
    assert whole // 4 < len(text.encode()) <= whole // 2
    seeds = part["files"][0]["shown_seeds"]
    assert seeds[0] == 0
    assert seeds[-1] == 39
    assert max(np.diff(seeds)) - min(np.diff(seeds)) <= 1
    assert f"the images of {len(seeds)} of 40 seeds" in text
    # Numbers are of all images, and images of the seeds that are named.
    assert all(len(decoded(cell["correct"])) == 120 for cell in part["cells"])
    sheet = np.asarray(Image.open(BytesIO(decoded(part["cells"][0]["sheet"]))))
    second = page.results.cells[0].pixels()[3 * seeds[1]].permute(1, 2, 0).numpy()
    columns = sheet.shape[1] // 16
    row, column = divmod(3, columns)
    np.testing.assert_array_equal(sheet[16 * row : 16 * row + 16, 16 * column : 16 * column + 16], second)


def test_small_i_clevr_stays_below_8_mib(tmp_path: Path) -> None:
    # Half of the images of iclevr-small: 24 cells, of random pixels, which do not compress.
    write_page(tmp_path / "report.html", a_page(seeds=50, side=32, noise=True))
    size = (tmp_path / "report.html").stat().st_size
    assert 6 * MEBIBYTE < size <= 8 * MEBIBYTE


def test_the_images_of_few_cells_are_in_memory_at_once() -> None:
    held: list[int] = []
    now = 0

    def reading(cell: JudgedCell) -> JudgedCell:
        def pixels() -> PixelImages:
            nonlocal now
            copied = cell.pixels().numpy().copy()
            now += 1
            held.append(now)
            weakref.finalize(copied, gone)
            return torch.from_numpy(copied)  # which keeps the array as long as it is used

        return replace(cell, pixels=pixels)

    def gone() -> None:
        nonlocal now
        now -= 1

    page = a_page()
    page = replace(page, results=replace(page.results, cells=[*map(reading, page.results.cells)]))
    expected = contents(a_page())
    assert contents(page) == expected
    assert now == 0
    assert len(held) >= len(page.results.cells) > max(held)
    assert max(held) <= SAMPLED_CELLS


def test_no_table_needs_images() -> None:
    def nothing() -> PixelImages:
        raise AssertionError("a table read the images of a cell")

    whole = a_page().results
    results = replace(whole, cells=[replace(cell, pixels=nothing) for cell in whole.cells])
    for table in ("sweep", "ranking", "by_checkpoint", "per_class", "by_size", "baselines"):
        pd.testing.assert_frame_equal(getattr(results, table), getattr(whole, table))


@pytest.mark.parametrize(
    ("room", "seeds", "checkpoints", "label_sets"),
    [(10**6, 10, 5, 30), (900, 1, 5, 30), (899, 1, 4, 30), (400, 1, 2, 30), (150, 1, 1, 25), (0, 1, 1, 1)],
)
def test_seeds_are_left_out_first_then_checkpoints_then_label_sets(
    room: int, seeds: int, checkpoints: int, label_sets: int
) -> None:
    sweep = Sweep(seeds={"test": 10}, label_sets={"test": 30}, cells={"test": 6}, checkpoints=5, best=3)
    chosen = sweep.select(room)
    kept = (len(chosen.seeds["test"]), len(chosen.checkpoints), len(chosen.label_sets["test"]))
    assert kept == (seeds, checkpoints, label_sets)
    assert 3 in chosen.checkpoints
    assert bool(sweep.left_out(chosen)) == (room < 10**6)


def test_evenly_keeps_the_first_and_the_last() -> None:
    assert [evenly(10, kept) for kept in (1, 2, 4, 10, 12)] == [[0], [0, 9], [0, 3, 6, 9], [*range(10)], [*range(10)]]


def test_hostile_names_stay_text() -> None:
    text = document(contents(a_page(names=HOSTILE, name=HOSTILE[0])))
    plain, page = Scripts(document(contents(a_page()))), Scripts(text)
    assert page.tags == plain.tags
    assert page.active == plain.active == [("href", "data:,")]
    assert len(page.scripts) == 2
    assert json.loads(page.scripts[0])["classes"] == list(HOSTILE)
    assert "\u2028" not in text
    assert "<!--" not in text


def test_the_page_forbids_every_request() -> None:
    text = document(contents(a_page()))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert "default-src 'none'" in policy[1].replace("&#39;", "'")
    assert "unsafe" not in policy[1]
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)


def test_the_page_has_every_file_of_its_room() -> None:
    room = files("evaluator.reporting.page")
    names = {each.name for each in room.iterdir() if each.name.endswith((".js", ".css", ".jinja"))}
    assert names == {"page.css", "page.html.jinja", *(f"{name}.js" for name in SCRIPTS)}
    assert all(len((room / name).read_text(encoding="utf-8").splitlines()) <= 400 for name in names)


def test_a_sheet_is_about_square() -> None:
    pixels = a_page(seeds=40, side=8, noise=True).results.cells[0].pixels()
    assert Image.open(BytesIO(sprite_sheet(pixels))).size == (11 * 8, 11 * 8)
    assert RESERVED < MEBIBYTE


def test_experiments_are_joined_as_the_methods_of_one_sweep() -> None:
    two, one = a_page().results, a_page(seeds=2).results
    one = replace(one, cells=one.cells_of("plain"))
    both = joined({"two": two, "one": one})
    assert both.methods == ["two, plain", "two, rescale", "one"]
    own = [cell for cell in both.cells if cell.settings["guidance_method"] == "one"]
    assert all(cell.pixels is before.pixels for cell, before in zip(own, one.cells, strict=True))
    # The settings of several methods tell them apart; an experiment's name says all of a single one.
    assert {cell.settings["guidance_settings"] for cell in both.cells} == {"", "phi=0.7"}
    accuracies = both.ranking.set_index(["guidance_method", "checkpoint", "guidance_weight"])["test"].to_dict()
    for weight in WEIGHTS:
        assert accuracies[("one", "epoch0002", weight)] == accuracies[("two, plain", "epoch0002", weight)]
        assert ("one", "epoch0001", weight) not in accuracies
