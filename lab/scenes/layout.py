"""Scenes: which objects stand where, as in the i-CLEVR data, and the label-set files that belong to them.

A class is a colour and a shape, 8 x 3 = 24 of them. A scene is three objects of different classes. The first stands at
the centre, the others within `REACH` of it, no two nearer than `MIN_DISTANCE`, each mostly visible. A scene gives three
pictures: its first object, its first two, all three; so a picture's label set begins with the one before's.

**Held-out pairs.** 24 of the 276 class pairs never stand together in a scene, whatever the seed. A pair of classes is
held out when the second's shape follows the first's (cube -> sphere -> cylinder -> cube) and its colour stands three
places further in `COLOURS` (the last is followed by the first): "gray cube" with "green sphere", "green sphere" with
"cyan cylinder". Every class is in exactly two held-out pairs, and turning the colours or the shapes around maps
held-out pairs to held-out pairs, so no class is rarer than another in training: each is seen with 21 of the other 23.
`unseen.json` asks for the held-out pairs, `test.json` and `new_test.json` never do.

Lengths are in units of the world (an object is 1.4 wide): x to the right of the camera, y away from it, z up from the
floor, the origin at the centre. Nothing here needs Mitsuba.
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
"""A scene's pictures hold 1, 2 and 3 objects."""

RADIUS = 0.7
"""Half the width and half the height of every object."""
REACH = 4.1
"""The furthest an object's axis stands from the centre; all of the object is in the picture from there."""
MIN_DISTANCE = 2.4
"""The least distance between two objects' axes; two cubes cannot touch below 2 sqrt(2) RADIUS = 1.98."""
MAX_HIDDEN = 0.4
"""The largest share of an object's box in the picture that nearer objects' boxes may cover."""

PICTURE_WIDTH, PICTURE_HEIGHT = 320, 240
FOCAL_LENGTH = 350.0
"""In pixels; with the camera's place it makes a sphere at the centre 36 pixels wide."""
CAMERA_DISTANCE, CAMERA_ELEVATION = 12.1, 5.75
"""The camera stands at (0, -CAMERA_DISTANCE, CAMERA_ELEVATION) ..."""
CAMERA_PITCH = math.radians(25.2)
"""... and looks this far below the horizon."""

LabelSet = tuple[str, ...]
Box = tuple[float, float, float, float]
Coordinate = TypeVar("Coordinate", float, NDArray[np.float64])


@dataclass(frozen=True)
class PlacedObject:
    """An object standing on the floor: its class, where its axis is, and for a cube its turn in radians."""

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
    """Whether a label set asks for a held-out pair; see the definition at the top."""
    indices = [CLASS_NAMES.index(name) for name in label_set]
    return any(_follows(a, b) or _follows(b, a) for a, b in combinations(indices, 2))


def _follows(a: int, b: int) -> bool:
    return b == _class(a // 8 + 1, a % 8 + 3)


def _class(shape: int, colour: int) -> int:
    """The index of the class of a shape and a colour, both counted round and round."""
    return shape % 3 * 8 + colour % 8


def label_set_files() -> dict[str, tuple[LabelSet, ...]]:
    """Return what the three label-set files hold, by file name. It is the same for every seed.

    - `test.json`: 32 label sets, 6 of one class, 12 of two and 14 of three: 72 labels, each class three times.
    - `new_test.json`: 32 label sets, 12 of two and 20 of three: 84 labels. The classes of a set share a shape or a
      colour with one another, which makes them easy to mix up.
    - `unseen.json`: 32 label sets with held-out pairs only: the 24 pairs, and 8 sets of three with two of them each.
    """
    # A stride prime to 24 visits every class once; of those whose sets hold no held-out pair, these mix shapes most.
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
    held_out_threes = [[_class(0, c), _class(1, c + 3), _class(2, c + 6)] for c in range(8)]
    files = {
        "test.json": test,
        "new_test.json": one_colour_every_shape + one_colour_or_one_shape + one_colour_two_shapes,
        "unseen.json": held_out_pairs + held_out_threes,
    }
    return {name: tuple(tuple(CLASS_NAMES[k] for k in classes) for classes in sets) for name, sets in files.items()}


def place_scene(seed: int, index: int) -> Scene:
    """Place the three objects of scene `index` of a seed; it depends on nothing else."""
    # Seeded by a text and asked only for random(): the two things Python promises to keep the same between versions.
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
            # A quarter turn maps a cube to itself.
            scene.append(PlacedObject(COLOURS[k % 8], SHAPES[k // 8], x, y, math.pi / 2 * random.random()))
        apart = all(math.hypot(a.x - b.x, a.y - b.y) >= MIN_DISTANCE for a, b in combinations(scene, 2))
        if apart and all(hidden_share(one, scene) <= MAX_HIDDEN for one in scene):
            return tuple(scene)


def project(x: Coordinate, y: Coordinate, z: Coordinate) -> tuple[Coordinate, Coordinate, Coordinate]:
    """Return a point's column and row in the picture, in pixels from the top left, and its depth before the camera."""
    away, below = y + CAMERA_DISTANCE, CAMERA_ELEVATION - z
    depth = away * math.cos(CAMERA_PITCH) + below * math.sin(CAMERA_PITCH)
    down = below * math.cos(CAMERA_PITCH) - away * math.sin(CAMERA_PITCH)
    return PICTURE_WIDTH / 2 + FOCAL_LENGTH * x / depth, PICTURE_HEIGHT / 2 + FOCAL_LENGTH * down / depth, depth


def outline(placed: PlacedObject) -> list[tuple[float, float]]:
    """Return points (column, row) of the picture whose convex hull is the silhouette, to a quarter of a pixel."""
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
    """Return the box around an object in the picture: left, top, right, bottom, in pixels."""
    columns, rows = zip(*outline(placed), strict=True)
    return min(columns), min(rows), max(columns), max(rows)


def hidden_share(placed: PlacedObject, scene: Sequence[PlacedObject]) -> float:
    """Return the share of an object's picture box under the boxes of the scene's nearer objects, overlaps added."""
    left, top, right, bottom = picture_box(placed)
    hidden = 0.0
    for other in scene:
        if project(other.x, other.y, RADIUS)[2] < project(placed.x, placed.y, RADIUS)[2]:
            box = picture_box(other)
            width, height = min(right, box[2]) - max(left, box[0]), min(bottom, box[3]) - max(top, box[1])
            hidden += max(width, 0.0) * max(height, 0.0)
    return hidden / ((right - left) * (bottom - top))
