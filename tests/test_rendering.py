"""Rendering: what a folder of scenes holds, what its pictures show, and what may not be written over."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from lab.errors import LabError
from lab.scenes import layout as scenes
from lab.scenes import rendering, studio
from lab.scenes.layout import SHAPES, PlacedObject, label_set_files, place_scene
from lab.scenes.rendering import SceneConfig, picture_name, render_scenes, write_label_set_files

pytestmark = pytest.mark.long  # each process that renders loads Mitsuba


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mitsuba")
    out = tmp_path_factory.mktemp("scenes") / "rendered"
    render_scenes(SceneConfig(out, scenes=3, seed=7, processes=1))
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def levels(path: Path) -> NDArray[np.uint8]:
    from PIL import Image

    with Image.open(path) as image:
        assert (image.mode, image.size, image.format) == ("RGB", (320, 240), "PNG")
        return np.asarray(image)


def test_folder_holds_the_pictures_and_their_nested_labels(rendered: Path) -> None:
    labels = json.loads((rendered / "train.json").read_text())
    assert list(labels) == [f"CLEVR_train_{i:06d}_{k}.png" for i in range(3) for k in range(3)]
    assert {path.name for path in rendered.glob("*.png")} == set(labels)
    json_files = {"objects.json", "train.json", "scenes.json"} | label_set_files().keys()
    assert {path.name for path in rendered.iterdir()} == json_files | set(labels)
    for i in range(3):
        three = labels[picture_name(i, 2)]
        assert three == [one.name for one in place_scene(7, i)]
        assert [labels[picture_name(i, k)] for k in range(3)] == [three[:1], three[:2], three]


def test_pictures_show_their_objects_and_only_those(rendered: Path) -> None:
    for i in range(3):
        scene = place_scene(7, i)
        shown = [levels(rendered / picture_name(i, k)).astype(float) for k in range(3)]
        for k in (1, 2):
            left, top, right, bottom = studio.window(scene[k])
            changed = (shown[k] != shown[k - 1]).any(axis=2)
            assert changed[top:bottom, left:right].mean() > 0.5
            changed[top:bottom, left:right] = False
            assert not changed.any()
        # The first object stands in the middle column and wears its colour; only the floor is right at the top.
        column, row, _ = scenes.project(0.0, 0.0, 0.7)
        patch = shown[0][int(row) - 4 : int(row) + 5, int(column) - 4 : int(column) + 5].mean(axis=(0, 1))
        albedo = np.array(studio.ALBEDOS[scene[0].colour])
        linear = (patch / 255) ** 2.2
        assert linear @ albedo / np.linalg.norm(linear) / np.linalg.norm(albedo) > 0.98
        assert abs(shown[2][:40].mean() - 105) < 2


def test_floor_has_the_brightness_of_i_clevr(rendered: Path) -> None:
    scene = place_scene(7, 0)
    picture = levels(rendered / picture_name(0, 0)).astype(float)
    left, top, right, bottom = studio.window(scene[0])
    floor = np.ones((240, 320), dtype=bool)
    floor[top:bottom, left:right] = False
    assert picture[floor].mean(axis=0) == pytest.approx([125, 125, 125], abs=4)
    # The brighter patch at the left edge.
    assert picture[100:120, :20].mean() > picture[100:120, 60:120].mean() + 10


def test_a_window_joins_the_given_floor_without_a_step() -> None:
    """What Mitsuba renders of the empty floor is what is written down for it, to within a level, everywhere."""
    pytest.importorskip("mitsuba")
    room = studio.Studio()
    for crop in ((0, 0, 16, 16), (304, 0, 320, 16), (0, 100, 16, 116), (150, 90, 166, 106), (304, 224, 320, 240)):
        left, top, right, bottom = crop
        found = room._render((), crop, seed=1).mean(axis=(0, 1))
        wanted = room._empty[top:bottom, left:right].mean(axis=(0, 1))
        assert found == pytest.approx(wanted, rel=0.03)


def test_sphere_at_the_centre_is_36_pixels_wide() -> None:
    pytest.importorskip("mitsuba")
    (picture,) = studio.Studio().pictures((PlacedObject("red", "sphere", 0.0, 0.0, 0.0),), noise=1)
    red = picture[..., 0].astype(float) > 1.5 * picture[..., 1]
    assert red.any(axis=0).sum() == pytest.approx(36, abs=2)
    assert np.flatnonzero(red.any(axis=0)).mean() == pytest.approx(159.5, abs=1)
    assert np.flatnonzero(red.any(axis=1)).mean() == pytest.approx(103.5, abs=2)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_silhouette_is_where_the_object_shows(shape: str) -> None:
    pytest.importorskip("mitsuba")
    placed = PlacedObject("red", shape, 1.5, -2.0, 0.6)
    (picture,) = studio.Studio().pictures((placed,), noise=1)
    red = picture[..., 0].astype(float) > 1.5 * picture[..., 1]
    silhouette = studio._silhouette(placed, (0, 0, 320, 240))
    assert not (red & ~silhouette).any()
    # The silhouette is wider by the filter's radius, on each side of some 50 pixels.
    assert 1 < silhouette.sum() / red.sum() < 1.35


@pytest.mark.slow
def test_two_processes_and_interruptions_change_no_byte(rendered: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    render_scenes(SceneConfig(out, scenes=2, seed=7, processes=2))
    kept = out / picture_name(0, 0)
    (out / picture_name(0, 1)).unlink()
    cut = out / picture_name(1, 2)
    cut.write_bytes(cut.read_bytes()[:-5])
    (out / "train.json").unlink()
    before = kept.stat().st_mtime_ns
    # Goes on, mends the two, and adds the third scene.
    render_scenes(SceneConfig(out, scenes=3, seed=7, processes=2))
    assert contents(out) == contents(rendered)
    assert kept.stat().st_mtime_ns == before


def test_a_complete_folder_starts_no_process(rendered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(rendered)
    monkeypatch.setattr(rendering, "ProcessPoolExecutor", None)
    render_scenes(SceneConfig(rendered, scenes=3, seed=7))
    assert contents(rendered) == before


@pytest.mark.parametrize(("height", "side"), [(120, 64), (60, 32)])
def test_smaller_pictures_are_the_same_after_resizing(
    rendered: Path, tmp_path: Path, height: Literal[120, 60], side: int
) -> None:
    from PIL import Image

    render_scenes(SceneConfig(tmp_path / "small", scenes=3, seed=7, height=height, processes=1))
    for name in (picture_name(i, k) for i in range(3) for k in range(3)):
        with Image.open(rendered / name) as full, Image.open(tmp_path / "small" / name) as small:
            assert small.size == (height * 4 // 3, height)
            resized = [np.asarray(one.resize((side, side), Image.Resampling.BILINEAR), float) for one in (full, small)]
        difference = resized[0] - resized[1]
        # The noise of the samples is left, two or three levels; an object or a shadow elsewhere would be tens.
        assert np.sqrt((difference**2).mean()) < 3
        assert abs(difference.mean()) < 1
        # Half a pixel to the side would correlate with the picture's slope.
        for axis in (0, 1):
            slope = np.gradient(resized[0], axis=axis)
            assert abs((difference * slope).sum() / (slope**2).sum()) < 0.1


def test_the_filter_of_small_pictures_is_that_of_averaged_large_ones() -> None:
    # The variance of a sum of independent offsets: the filter's, and the place in a square of pixels.
    for pixel in (1, 2, 4):
        offsets = np.arange(pixel) - (pixel - 1) / 2
        expected = studio.filter_deviation(1) ** 2 + offsets.var()
        assert studio.filter_deviation(pixel) ** 2 == pytest.approx(expected)


def test_another_height_is_refused(rendered: Path, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"--height is 60, but .* height 240;\ncontinue with --height 240, or choose"):
        render_scenes(SceneConfig(rendered, scenes=3, seed=7, height=60))
    # A folder from before the option holds pictures of the full height.
    (tmp_path / "scenes.json").write_text('{"format": 1, "seed": 7}')
    with pytest.raises(LabError, match="height 240"):
        render_scenes(SceneConfig(tmp_path, scenes=1, seed=7, height=120))


def test_another_seed_is_refused(rendered: Path) -> None:
    before = contents(rendered)
    with pytest.raises(LabError, match=r"--seed is 8, but .* holds scenes of seed 7;\ncontinue with --seed 7"):
        render_scenes(SceneConfig(rendered, scenes=3, seed=8))
    assert contents(rendered) == before


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("[]", "must be"),
        ("{", "must be"),
        ('{"seed": 0}', "must be"),
        ('{"format": 99, "seed": 0}', r"has format 99, but this version renders format \d+;"),
        (None, "holds a train.json that this command did not write"),
    ],
)
def test_a_folder_of_something_else_is_refused(tmp_path: Path, mark: str | None, message: str) -> None:
    pytest.importorskip("mitsuba")
    (tmp_path / "train.json").write_text("mine")
    if mark is not None:
        (tmp_path / "scenes.json").write_text(mark)
    before = contents(tmp_path)
    with pytest.raises(LabError, match=message):
        render_scenes(SceneConfig(tmp_path, scenes=1))
    assert contents(tmp_path) == before


def test_files_of_another_data_set_are_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mitsuba")
    monkeypatch.setattr(rendering, "_render_missing", lambda *_: None)
    write_label_set_files(tmp_path)
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / picture_name(0, 0)).write_text("mine")
    with pytest.raises(LabError, match=rf"holds a {picture_name(0, 0)} that this command did not write"):
        render_scenes(SceneConfig(tmp_path, scenes=1))
    (tmp_path / picture_name(0, 0)).unlink()
    (tmp_path / "test.json").write_text("[]")
    with pytest.raises(LabError, match=r"holds a test\.json that this command did not write"):
        render_scenes(SceneConfig(tmp_path, scenes=1))
    write_label_set_files(tmp_path)
    render_scenes(SceneConfig(tmp_path, scenes=1))
    assert (tmp_path / "README.md").read_text() == "mine"


def test_places_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    pytest.importorskip("mitsuba")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(LabError, match=r"--out .* is a file"):
        render_scenes(SceneConfig(tmp_path / "file", scenes=1))
    with pytest.raises(LabError, match="cannot write"):
        render_scenes(SceneConfig(tmp_path / "file" / "below", scenes=1))
    # A folder stands where a picture has to go, so the process that renders it fails.
    render_folder = tmp_path / "out"
    render_scenes(SceneConfig(render_folder, scenes=1, processes=1))
    (render_folder / picture_name(0, 0)).unlink()
    (render_folder / picture_name(0, 0)).mkdir()
    with pytest.raises(LabError, match=rf"{picture_name(0, 0)}: cannot write"):
        render_scenes(SceneConfig(render_folder, scenes=1, processes=1))


@pytest.mark.slow
def test_ctrl_c_leaves_only_complete_files(tmp_path: Path) -> None:
    pytest.importorskip("mitsuba")
    out = tmp_path / "out"
    code = (
        "from pathlib import Path; from lab.scenes.rendering import SceneConfig, render_scenes; "
        f"render_scenes(SceneConfig(Path({str(out)!r}), scenes=2000, processes=2))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while len(list(out.glob("CLEVR*.png"))) < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
        # As a terminal does: to the process and all that it started.
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            process.kill()
    assert errors.count("Traceback") == 1
    assert "KeyboardInterrupt" in errors.splitlines()[-1]
    found = list(out.glob("CLEVR*.png"))
    assert 4 <= len(found) < 100
    assert all(path.read_bytes().endswith(rendering.PNG_END) for path in found)
    assert not list(out.glob(".*"))
    assert not (out / "train.json").exists()
