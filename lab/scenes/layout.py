"""Scenes: the positions of the objects, as in the i-CLEVR data, and the matching label-set files.

A class is a colour and a shape; there are 8 x 3 = 24 classes. A scene has three objects of different classes. The first
stands at the centre, and the others stand within `REACH` of it. Objects are at least `MIN_DISTANCE` apart, and each is
mostly visible. A scene gives three pictures: the first object, the first two, and all three. The label set of a picture
therefore starts with that of the previous picture.

**Held-out pairs.** 24 of the 276 pairs of classes never occur together in a scene, for any seed. A pair is held out if
the second shape follows the first (cube -> sphere -> cylinder -> cube) and the second colour is three places after the
first in `COLOURS`, wrapping around at the end: "gray cube" with "green sphere", "green sphere" with "cyan cylinder".
Every class is in exactly two held-out pairs, and rotating the colours or the shapes maps held-out pairs to held-out
pairs, so all classes are equally frequent in training: each occurs with 21 of the other 23. `unseen.json` has held-out
pairs in every label set; the other files have none.

Lengths are in world units (an object is 1.4 wide). x points to the right of the camera, y away from it, and z up from
the floor; the origin is the centre. This file does not need Mitsuba.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

COLOURS = ("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow")
SHAPES = ("cube", "sphere", "cylinder")
CLASS_NAMES = tuple(f"{colour} {shape}" for shape in SHAPES for colour in COLOURS)
"""The class names in index order: class 8 s + c has shape s and colour c."""

PICTURES_PER_SCENE = 3
"""The pictures of a scene show 1, 2 and 3 objects."""

RADIUS = 0.7
"""Half the width and half the height of every object."""
REACH = 4.1
"""Largest distance of an object's axis from the centre. The whole object is inside the picture at this distance."""
MIN_DISTANCE = 2.4
"""Smallest distance between the axes of two objects. Two cubes can touch only below 2 sqrt(2) RADIUS = 1.98."""
MAX_HIDDEN = 0.4
"""Largest share of an object's box in the picture that the boxes of nearer objects may cover."""

PICTURE_WIDTH, PICTURE_HEIGHT = 320, 240
FOCAL_LENGTH = 350.0
"""In pixels. A sphere at the centre is then 36 pixels wide."""
CAMERA_DISTANCE, CAMERA_ELEVATION = 12.1, 5.75
"""The camera is at (0, -CAMERA_DISTANCE, CAMERA_ELEVATION)."""
CAMERA_PITCH = math.radians(25.2)
"""The angle of the camera below the horizon, in radians."""

LabelSet = tuple[str, ...]
Box = tuple[float, float, float, float]
Coordinate = TypeVar("Coordinate", float, NDArray[np.float64])


@dataclass(frozen=True)
class PlacedObject:
    """An object on the floor: its class, the position of its axis, and a cube's rotation (`yaw`) in radians."""

    colour: str
    shape: str
    x: float
    y: float
    yaw: float

    @property
    def name(self) -> str:
        """The class name."""
        return f"{self.colour} {self.shape}"


Scene = tuple[PlacedObject, ...]


def is_held_out(label_set: Sequence[str]) -> bool:
    """Whether a label set contains a held-out pair; see the definition at the top of this file."""
    indices = [CLASS_NAMES.index(name) for name in label_set]
    return any(_follows(a, b) or _follows(b, a) for a, b in combinations(indices, 2))


def _follows(a: int, b: int) -> bool:
    return b == _class(a // 8 + 1, a % 8 + 3)


def _class(shape: int, colour: int) -> int:
    """Return the index of a class by shape and colour; both wrap around."""
    return shape % 3 * 8 + colour % 8


def label_set_files() -> dict[str, tuple[LabelSet, ...]]:
    """Return the label sets of the four label-set files, by file name. They are the same for every seed.

    - `test.json`: 32 label sets, 6 of one class, 12 of two and 14 of three: 72 labels, each class three times.
    - `new_test.json`: 32 label sets, 12 of two and 20 of three: 84 labels. The classes of a label set share a shape or
      a colour, so they are easy to confuse.
    - `unseen.json`: 32 label sets: the 24 held-out pairs, and 8 sets of three classes with two held-out pairs each.
    - `more.json`: 24 label sets of four classes, one more than a scene has objects: 96 labels, each class four times.
    """
    # A stride coprime to 24 visits every class once. Among the strides without held-out pairs, these mix shapes most.
    walk = [stride * i % 24 for stride in (19, 7, 23) for i in range(24)]
    test, start = [], 0
    for size in [1] * 6 + [2] * 12 + [3] * 14:
        test.append(walk[start : start + size])
        start += size
    one_colour_every_shape = [[_class(s, c) for s in range(3)] for c in range(8)]
    one_colour_or_one_shape = [
        [_class(s, c), _class(s, c + 1), _class(s + 1, c)] for s in range(3) for c in range(0, 8, 2)
    ]
    one_colour_two_shapes = [[_class(s, c), _class(s + 1, c)] for s in range(3) for c in range(1, 8, 2)]
    held_out_pairs = [[_class(s, c), _class(s + 1, c + 3)] for s in range(3) for c in range(8)]
    fours = [
        [_class(s, c), _class(s + 1, c + 1), _class(s + 2, c + 2), _class(s, c + 7)] for s in range(3) for c in range(8)
    ]
    held_out_threes = [[_class(0, c), _class(1, c + 3), _class(2, c + 6)] for c in range(8)]
    files = {
        "test.json": test,
        "new_test.json": one_colour_every_shape + one_colour_or_one_shape + one_colour_two_shapes,
        "unseen.json": held_out_pairs + held_out_threes,
        "more.json": fours,
    }
    return {name: tuple(tuple(CLASS_NAMES[k] for k in classes) for classes in sets) for name, sets in files.items()}


def place_scene(seed: int, index: int) -> Scene:
    """Return the scene with this index for a seed. The scene depends on nothing else."""
    # Python guarantees the same numbers in all versions only for a text seed and random().
    random = Random(f"{seed} {index}")
    while True:
        classes = tuple(int(random.random() * len(CLASS_NAMES)) for _ in range(PICTURES_PER_SCENE))
        if len(set(classes)) == len(classes) and not is_held_out([CLASS_NAMES[k] for k in classes]):
            break
    while True:
        scene: list[PlacedObject] = []
        for k in classes:
            distance, direction = REACH * math.sqrt(random.random()), 2 * math.pi * random.random()
            x, y = (distance * math.cos(direction), distance * math.sin(direction)) if scene else (0.0, 0.0)
            # A rotation by 90 degrees maps a cube to itself.
            scene.append(PlacedObject(COLOURS[k % 8], SHAPES[k // 8], x, y, math.pi / 2 * random.random()))
        apart = all(math.hypot(a.x - b.x, a.y - b.y) >= MIN_DISTANCE for a, b in combinations(scene, 2))
        if apart and all(hidden_share(one, scene) <= MAX_HIDDEN for one in scene):
            return tuple(scene)


def project(x: Coordinate, y: Coordinate, z: Coordinate) -> tuple[Coordinate, Coordinate, Coordinate]:
    """Return a point's column and row in the picture, in pixels from the top left, and its depth from the camera."""
    away, below = y + CAMERA_DISTANCE, CAMERA_ELEVATION - z
    depth = away * math.cos(CAMERA_PITCH) + below * math.sin(CAMERA_PITCH)
    down = below * math.cos(CAMERA_PITCH) - away * math.sin(CAMERA_PITCH)
    return PICTURE_WIDTH / 2 + FOCAL_LENGTH * x / depth, PICTURE_HEIGHT / 2 + FOCAL_LENGTH * down / depth, depth


def outline(placed: PlacedObject) -> list[tuple[float, float]]:
    """Return points (column, row) in the picture whose convex hull is the silhouette, within a quarter of a pixel."""
    angles = [2 * math.pi * corner / 24 for corner in range(24)]
    if placed.shape == "sphere":
        column, row, depth = project(placed.x, placed.y, RADIUS)
        size = FOCAL_LENGTH * RADIUS / depth
        return [(column + size * math.cos(angle), row + size * math.sin(angle)) for angle in angles]
    reach = RADIUS
    if placed.shape == "cube":
        angles, reach = [placed.yaw + math.pi / 4 * corner for corner in (1, 3, 5, 7)], math.sqrt(2) * RADIUS
    points = [
        project(placed.x + reach * math.cos(angle), placed.y + reach * math.sin(angle), z)
        for angle in angles
        for z in (0.0, 2 * RADIUS)
    ]
    return [(column, row) for column, row, _ in points]


def picture_box(placed: PlacedObject) -> Box:
    """Return the bounding box of an object in the picture: left, top, right, bottom, in pixels."""
    columns, rows = zip(*outline(placed), strict=True)
    return min(columns), min(rows), max(columns), max(rows)


def hidden_share(placed: PlacedObject, scene: Sequence[PlacedObject]) -> float:
    """Return the share of an object's box that the boxes of nearer objects cover; overlapping areas count twice."""
    left, top, right, bottom = picture_box(placed)
    hidden = 0.0
    for other in scene:
        if project(other.x, other.y, RADIUS)[2] < project(placed.x, placed.y, RADIUS)[2]:
            box = picture_box(other)
            width, height = min(right, box[2]) - max(left, box[0]), min(bottom, box[3]) - max(top, box[1])
            hidden += max(width, 0.0) * max(height, 0.0)
    return hidden / ((right - left) * (bottom - top))
