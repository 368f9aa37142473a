"""Denoising pictures: which moments of sampling they show, and in which order."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from evaluator.reporting import figures
from evaluator.reporting.denoising import write_denoising
from experiments.configuration import Experiment
from lab.configuration.diffusion import AncestralConfig, LinearScheduleConfig
from lab.configuration.pictures import PicturesConfig
from lab.data.labelled_images import spread_evenly
from lab.errors import LabError
from tests.command import TINY, Mistake, run

COURSEWORK = (1, *range(21, 400, 20), *range(394, 401))
Recorded = list[tuple[str, np.ndarray, list[str]]]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """The name, images and column names of every grid."""
    grids: Recorded = []
    draw = figures.image_grid

    def record(path: Path, images: np.ndarray, rows: Any, columns: Any, title: str) -> None:
        grids.append((path.name, images, list(columns)))
        draw(path, images, rows, columns, title)

    monkeypatch.setattr(figures, "image_grid", record)
    return grids


def test_by_default_ten_moments_are_shown_evenly_spaced() -> None:
    for sampling_steps in (1, 3, 8, 9, 12, 50, 300, 400, 1000):
        assert list(PicturesConfig().shown(sampling_steps)) == spread_evenly(10, sampling_steps + 1).tolist()


def test_the_coursework_s_moments_are_a_choice_of_steps() -> None:
    sampling = LinearScheduleConfig(timesteps=400), AncestralConfig(sampling_steps=400)
    experiment = Experiment(schedule=sampling[0], sampler=sampling[1], pictures=PicturesConfig(steps=COURSEWORK))
    # x is kept where i is a multiple of 20, T or below 8, with i counted down from T.
    kept = [401 - i for i in range(400, 0, -1) if i % 20 == 0 or i == 400 or i < 8]
    assert list(experiment.pictures.shown(400)) == kept
    assert len(kept) == 27


@pytest.mark.parametrize(
    ("pictures", "told"),
    [
        (PicturesConfig(steps=(3, 9)), "--pictures.steps contains 9; it must be from 0 to --sampler.sampling-steps"),
        (PicturesConfig(steps=(-1, 2)), "--pictures.steps contains -1"),
    ],
)
def test_other_steps_are_refused(pictures: PicturesConfig, told: str) -> None:
    with pytest.raises(LabError, match=told):
        Experiment(pictures=pictures)


@pytest.mark.parametrize("steps", [(3, 1), (2, 2)])
def test_the_order_is_time_s(steps: tuple[int, ...]) -> None:
    with pytest.raises(LabError, match="must rise from step to step"):
        PicturesConfig(steps=steps)


@pytest.mark.parametrize("clean_first", [False, True])
def test_the_strip_shows_its_steps(tmp_path: Path, drawn: Recorded, clean_first: bool) -> None:
    # After step s, every pixel is s.
    moments = {step: torch.full((6, 1, 4, 4), step, dtype=torch.uint8) for step in (1, 100, 200)}
    pictures = PicturesConfig(steps=(1, 100, 200), clean_first=clean_first, grid=5)
    write_denoising(tmp_path, moments, pictures, list("abcdef"), "title")
    (name, images, columns), *sheets = drawn
    order = [200, 100, 1] if clean_first else [1, 100, 200]
    assert name == "denoising_strip.png"
    assert images.shape == (4, 3, 1, 4, 4)
    assert [np.unique(images[:, column]).tolist() for column in range(3)] == [[step] for step in order]
    assert columns == [f"step {step}" for step in order]
    assert [name for name, _, _ in sheets] == ["step0001.png", "step0100.png", "step0200.png"]
    assert [np.unique(images).tolist() for _, images, _ in sheets] == [[1], [100], [200]]
    assert sheets[0][1].shape == (1, 5, 1, 4, 4)
    assert sorted(path.name for path in (tmp_path / "denoising").iterdir()) == [name for name, _, _ in sheets]


def test_a_strip_of_many_moments_is_cut_into_bands(tmp_path: Path) -> None:
    moments = {step: torch.full((1, 3, 8, 8), step % 256, dtype=torch.uint8) for step in COURSEWORK}
    for name, pictures in (("many", PicturesConfig(steps=COURSEWORK)), ("few", PicturesConfig())):
        shown = {step: moments[step] for step in (COURSEWORK if name == "many" else COURSEWORK[:9])}
        write_denoising(tmp_path / name, shown, pictures, ["0"], "title")
    many, few = (Image.open(tmp_path / name / "denoising_strip.png").size for name in ("many", "few"))
    assert many[0] == few[0]
    assert many[1] > 2 * few[1]


def test_a_report_shows_the_steps_of_its_sampler(
    finished: Path, tmp_path: Path, drawn: Recorded, mistake: Mistake
) -> None:
    root = shutil.copytree(finished, tmp_path / "root")
    assert run(root, "digits", *TINY) == 0
    every = next(images for name, images, _ in drawn if name == "denoising_strip.png")
    assert every.shape[1] == 4  # three steps, after the starting noise
    drawn.clear()
    chosen = ["--pictures.steps", "1", "3", "--pictures.clean-first", "--pictures.grid", "7"]
    assert run(root, "digits", *TINY, *chosen) == 0
    strip = next(images for name, images, _ in drawn if name == "denoising_strip.png")
    np.testing.assert_array_equal(strip, every[:, [3, 1]])
    sheets = {name: images for name, images, _ in drawn if name.startswith("step")}
    assert list(sheets) == ["step0001.png", "step0003.png"]
    np.testing.assert_array_equal(sheets["step0003.png"][0, :4], every[:, 3])
    assert sheets["step0003.png"].shape[1] == 7
    mistake(root, "--pictures.steps contains 4; it must be from 0 to", "digits", *TINY, "--pictures.steps", "4")
