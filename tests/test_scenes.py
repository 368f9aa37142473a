"""Scenes: what may stand together, where, what the label-set files ask for, and what a rendered folder holds."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lab import rendering, scenes, studio
from lab.errors import LabError
from lab.rendering import SceneConfig, picture_name, render_scenes, write_label_set_files
from lab.scenes import CLASS_NAMES, COLOURS, SHAPES, PlacedObject, Scene, label_set_files, place_scene

HELD_OUT = {
    frozenset((f"{COLOURS[c]} {first}", f"{COLOURS[(c + 3) % 8]} {second}"))
    for first, second in (("cube", "sphere"), ("sphere", "cylinder"), ("cylinder", "cube"))
    for c in range(8)
}


@pytest.fixture(scope="module")
def placed() -> list[Scene]:
    return [place_scene(seed, i) for seed in (0, 1) for i in range(250)]


def test_classes_are_numbered_as_in_i_clevr() -> None:
    assert len(CLASS_NAMES) == 24
    assert [CLASS_NAMES[k] for k in (0, 7, 9, 23)] == ["gray cube", "yellow cube", "red sphere", "yellow cylinder"]


def test_every_class_is_in_two_held_out_pairs() -> None:
    assert len(HELD_OUT) == 24
    assert {
        pair for pair in map(frozenset, combinations(CLASS_NAMES, 2)) if scenes.is_held_out(sorted(pair))
    } == HELD_OUT
    assert set(Counter(name for pair in HELD_OUT for name in pair).values()) == {2}


def test_held_out_pairs_never_stand_together_and_all_others_do(placed: list[Scene]) -> None:
    pairs = Counter(frozenset((a.name, b.name)) for scene in placed for a, b in combinations(scene, 2))
    assert not pairs.keys() & HELD_OUT
    assert len(pairs) == 276 - 24


def test_classes_are_distinct_in_a_scene_and_equally_frequent(placed: list[Scene]) -> None:
    assert all(len({one.name for one in scene}) == 3 for scene in placed)
    counts = Counter(one.name for scene in placed for one in scene)
    assert counts.keys() == set(CLASS_NAMES)
    # 1,500 objects over 24 classes: 62.5 each, standard deviation 7.7; five of them.
    assert max(abs(count - 62.5) for count in counts.values()) < 39


def test_objects_never_intersect(placed: list[Scene]) -> None:
    assert min(gap(a, b) for scene in placed for a, b in combinations(scene, 2)) > 0.3


def gap(a: PlacedObject, b: PlacedObject) -> float:
    """A lower bound on the distance of two solids, below 0 where they meet, by their sections at z = 0.7.

    There each is widest: a circle of radius 0.7, or a square of side 1.4. By the separating axis theorem two convex
    sections are disjoint exactly where along some direction their shadows are; one axis in each degree is tried.
    """
    return max(
        abs((b.x - a.x) * math.cos(angle) + (b.y - a.y) * math.sin(angle))
        - half_shadow(a, angle)
        - half_shadow(b, angle)
        for angle in np.radians(np.arange(0, 180, 1.0))
    )


def half_shadow(one: PlacedObject, angle: float) -> float:
    turn = angle - one.yaw
    return 0.7 * (abs(math.cos(turn)) + abs(math.sin(turn))) if one.shape == "cube" else 0.7


def test_the_gap_between_known_solids() -> None:
    cube = PlacedObject("red", "cube", 0.0, 0.0, 0.0)
    assert gap(cube, PlacedObject("red", "cube", 1.5, 0.0, 0.0)) == pytest.approx(0.1)
    assert gap(cube, PlacedObject("red", "cube", 1.5, 0.0, math.pi / 4)) == pytest.approx(
        1.5 - 0.7 - 0.7 * math.sqrt(2)
    )
    assert gap(cube, PlacedObject("red", "sphere", 1.2, 1.2, 0.0)) == pytest.approx(math.sqrt(0.5) - 0.7)


def test_first_object_stands_at_the_centre_and_all_are_in_the_picture(placed: list[Scene]) -> None:
    assert all((scene[0].x, scene[0].y) == (0.0, 0.0) for scene in placed)
    boxes = np.array([scenes.picture_box(one) for scene in placed for one in scene])
    assert (boxes > 0).all()
    assert (boxes[:, [0, 2]] < 320).all()
    assert (boxes[:, [1, 3]] < 240).all()


def test_no_object_is_mostly_hidden(placed: list[Scene]) -> None:
    """Points on the object that face the camera are hidden where the sight line passes through a nearer solid."""
    for scene in placed[::20]:
        for one in scene:
            hidden = [any(blocks(other, point) for other in scene if other is not one) for point in outline(one)]
            assert np.mean(hidden) < 0.5


def outline(one: PlacedObject) -> list[tuple[float, float, float]]:
    """Points of an upright disc through the object's axis, across the line of sight: about what the camera sees."""
    return [
        (one.x + across, one.y, up)
        for across in np.linspace(-0.6, 0.6, 7)
        for up in np.linspace(0.1, 1.3, 7)
        if one.shape != "sphere" or math.hypot(across, up - 0.7) < 0.7
    ]


def blocks(solid: PlacedObject, point: tuple[float, float, float]) -> bool:
    """Whether a round solid of radius 0.7 and height 1.4 covers a point, by walking from the camera towards it."""
    eye = np.array([0.0, -scenes.CAMERA_DISTANCE, scenes.CAMERA_ELEVATION])
    walk = eye + np.linspace(0, 0.97, 300)[:, None] * (np.array(point) - eye)
    inside = (np.hypot(walk[:, 0] - solid.x, walk[:, 1] - solid.y) < 0.7) & (walk[:, 2] > 0) & (walk[:, 2] < 1.4)
    return bool(inside.any())


def test_the_hidden_share_of_a_known_scene() -> None:
    back, front = PlacedObject("red", "sphere", 0.0, 0.0, 0.0), PlacedObject("blue", "cube", 0.0, -3.0, 0.0)
    left, top, right, bottom = scenes.picture_box(back)
    cover = scenes.picture_box(front)
    # The cube is wider than the sphere on both sides, so the share is that of the rows.
    assert cover[0] < left < right < cover[2]
    assert scenes.hidden_share(back, [back, front]) == pytest.approx((bottom - cover[1]) / (bottom - top))
    assert scenes.hidden_share(front, [back, front]) == 0


def test_a_scene_depends_on_seed_and_index_alone() -> None:
    assert place_scene(3, 5) == place_scene(3, 5)
    assert len({place_scene(seed, i) for seed in range(10) for i in range(10)}) == 100


@pytest.mark.parametrize(
    ("name", "sizes", "times"),
    [
        ("test.json", {1: 6, 2: 12, 3: 14}, {3}),
        ("new_test.json", {2: 12, 3: 20}, {3, 4}),
        ("unseen.json", {2: 24, 3: 8}, {3}),
    ],
)
def test_label_set_files(name: str, sizes: dict[int, int], times: set[int]) -> None:
    label_sets = label_set_files()[name]
    assert Counter(map(len, label_sets)) == sizes
    assert sum(map(len, label_sets)) == {"test.json": 72, "new_test.json": 84, "unseen.json": 72}[name]
    assert all(len(set(label_set)) == len(label_set) for label_set in label_sets)
    assert len({frozenset(label_set) for label_set in label_sets}) == 32
    counts = Counter(label for label_set in label_sets for label in label_set)
    assert counts.keys() == set(CLASS_NAMES)
    assert set(counts.values()) == times
    asks = [any(frozenset(pair) in HELD_OUT for pair in combinations(label_set, 2)) for label_set in label_sets]
    assert all(asks) if name == "unseen.json" else not any(asks)


def test_unseen_asks_for_every_held_out_pair() -> None:
    assert {frozenset(label_set) for label_set in label_set_files()["unseen.json"]} >= HELD_OUT


def test_label_set_files_are_written_as_they_are_read(tmp_path: Path) -> None:
    write_label_set_files(tmp_path / "new")
    for name, label_sets in label_set_files().items():
        assert json.loads((tmp_path / "new" / name).read_text()) == [list(label_set) for label_set in label_sets]
    objects = json.loads((tmp_path / "new" / "objects.json").read_text())
    assert objects == {
        f"{colour} {shape}": 8 * s + c for s, shape in enumerate(SHAPES) for c, colour in enumerate(COLOURS)
    }
    assert len(list((tmp_path / "new").iterdir())) == 4


@pytest.mark.parametrize(
    ("field", "value"), [("scenes", 0), ("scenes", 1_000_000), ("seed", -1), ("seed", 2**31), ("processes", -1)]
)
def test_configuration_out_of_range(field: str, value: int) -> None:
    with pytest.raises(LabError, match=rf"--{field} is {value}; allowed is"):
        SceneConfig(Path("x"), **({"scenes": 1} | {field: value}))


def test_a_missing_mitsuba_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mitsuba", None)
    with pytest.raises(LabError, match=re.escape("pip install -e '.[scenes]'")):
        render_scenes(SceneConfig(tmp_path / "out", scenes=1))
    assert not (tmp_path / "out").exists()


# From here on Mitsuba renders.


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
    json_files = {"objects.json", "train.json", "test.json", "new_test.json", "unseen.json", "scenes.json"}
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


def test_another_seed_is_refused(rendered: Path) -> None:
    before = contents(rendered)
    with pytest.raises(LabError, match=r"--seed is 8, but .* holds scenes of seed 7;\ngo on with --seed 7"):
        render_scenes(SceneConfig(rendered, scenes=3, seed=8))
    assert contents(rendered) == before


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("[]", "allowed is"),
        ("{", "allowed is"),
        ('{"seed": 0}', "allowed is"),
        ('{"format": 99, "seed": 0}', r"has format 99, and this version renders format \d+;"),
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
        "from pathlib import Path; from lab.rendering import SceneConfig, render_scenes; "
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
