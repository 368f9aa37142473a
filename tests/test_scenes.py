"""Scenes: what may stand together, where, and what the label-set files ask for."""

import json
import math
import re
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lab.errors import LabError
from lab.scenes import layout as scenes
from lab.scenes.layout import CLASS_NAMES, COLOURS, SHAPES, PlacedObject, Scene, label_set_files, place_scene
from lab.scenes.rendering import SceneConfig, render_scenes, write_label_set_files

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


@pytest.mark.long
def test_held_out_pairs_never_stand_together_and_all_others_do(placed: list[Scene]) -> None:
    pairs = Counter(frozenset((a.name, b.name)) for scene in placed for a, b in combinations(scene, 2))
    assert not pairs.keys() & HELD_OUT
    assert len(pairs) == 276 - 24


@pytest.mark.long
def test_classes_are_distinct_in_a_scene_and_equally_frequent(placed: list[Scene]) -> None:
    assert all(len({one.name for one in scene}) == 3 for scene in placed)
    counts = Counter(one.name for scene in placed for one in scene)
    assert counts.keys() == set(CLASS_NAMES)
    # 1,500 objects over 24 classes: 62.5 each, standard deviation 7.7; five of them.
    assert max(abs(count - 62.5) for count in counts.values()) < 39


@pytest.mark.long
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


@pytest.mark.long
def test_first_object_stands_at_the_centre_and_all_are_in_the_picture(placed: list[Scene]) -> None:
    assert all((scene[0].x, scene[0].y) == (0.0, 0.0) for scene in placed)
    boxes = np.array([scenes.picture_box(one) for scene in placed for one in scene])
    assert (boxes > 0).all()
    assert (boxes[:, [0, 2]] < 320).all()
    assert (boxes[:, [1, 3]] < 240).all()


@pytest.mark.long
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
        ("more.json", {4: 24}, {4}),
    ],
)
def test_label_set_files(name: str, sizes: dict[int, int], times: set[int]) -> None:
    label_sets = label_set_files()[name]
    assert Counter(map(len, label_sets)) == sizes
    labels = {"test.json": 72, "new_test.json": 84, "unseen.json": 72, "more.json": 96}
    assert sum(map(len, label_sets)) == labels[name]
    assert all(len(set(label_set)) == len(label_set) for label_set in label_sets)
    assert len({frozenset(label_set) for label_set in label_sets}) == len(label_sets) == sum(sizes.values())
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
    assert len(list((tmp_path / "new").iterdir())) == 5


@pytest.mark.parametrize(
    ("field", "value"), [("scenes", 0), ("scenes", 1_000_000), ("seed", -1), ("seed", 2**31), ("processes", -1)]
)
def test_configuration_out_of_range(field: str, value: int) -> None:
    settings: dict[str, Any] = {"scenes": 1} | {field: value}
    with pytest.raises(LabError, match=rf"--{field} is {value}; it must be"):
        SceneConfig(Path("x"), **settings)


def test_a_missing_mitsuba_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mitsuba", None)
    with pytest.raises(LabError, match=re.escape("pip install -e '.[scenes]'")):
        render_scenes(SceneConfig(tmp_path / "out", scenes=1))
    assert not (tmp_path / "out").exists()
