"""Renders the pictures of a scene with Mitsuba 3 (`scalar_rgb`, one thread).

The floor, the lamps and the camera never change. The floor's albedo is chosen to give the empty floor fixed tones, so
the empty picture is known without rendering. Each picture copies the previous one and renders a window around the new
object. Inside the object's silhouette, the picture takes the rendered pixels; around it, the change (shadow and
reflection) is smoothed. Pixels outside the window stay the same, including their noise, as in i-CLEVR, where the
pictures of a scene share their noise.

Colours are linear, not sRGB, up to `_png_levels`.
"""

import math
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.errors import LabError
from lab.scenes.floor import FLOOR_DEPTH, FLOOR_HALF_WIDTH, LAMPS, SKY, Linear, empty_floor, floor_albedo
from lab.scenes.layout import (
    CAMERA_DISTANCE,
    CAMERA_ELEVATION,
    CAMERA_PITCH,
    FOCAL_LENGTH,
    PICTURE_HEIGHT,
    PICTURE_WIDTH,
    RADIUS,
    PlacedObject,
    Scene,
    outline,
    picture_box,
)

Levels = NDArray[np.uint8]
Crop = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels, the last two exclusive."""

SAMPLES_PER_PIXEL = 6
"""The noise is then a few levels at full size, and invisible at 64 x 64. A larger pixel has more samples, though fewer
than the pixels that it replaces."""

ALBEDOS = {
    "gray": (0.21, 0.205, 0.20),
    "red": (0.35, 0.070, 0.067),
    "blue": (0.115, 0.19, 0.47),
    "green": (0.065, 0.25, 0.06),
    "brown": (0.235, 0.13, 0.043),
    "purple": (0.275, 0.083, 0.385),
    "cyan": (0.075, 0.44, 0.44),
    "yellow": (0.52, 0.46, 0.085),
}
"""CLEVR's eight colours, as its matte material shows them."""

FILTER_DEVIATION = 0.7
"""Standard deviation of the sample filter in pixels. Edges are about as soft as in i-CLEVR."""
FILTER_REACH = 4
"""Radius of the sample filter in standard deviations."""

WINDOW_MARGINS = (24, 10, 18, 20)
"""Margins of the window to the left, above, to the right and below a new object's box, in pixels."""
FEATHER = 10
"""Width of the blend between the new rendering and the previous picture at the window's edges, in pixels."""

SMOOTHING = 7
"""Side of the square that averages the change outside a new object, in pixels; odd."""

BEVEL = 0.07
"""Radius of a cube's rounded edges."""


class Studio:
    """The lamps, the floor and the camera, loaded once for any number of scenes.

    Args:
        pixel: side of a picture's pixel, in pixels of the full size, 320 x 240; it divides 80.

    Raises:
        LabError: Mitsuba is not installed.
    """

    def __init__(self, pixel: int = 1) -> None:
        self._pixel, self._width, self._height = pixel, PICTURE_WIDTH // pixel, PICTURE_HEIGHT // pixel
        self._mi = load_mitsuba()
        # One thread gives one order of summation, so that the pictures are the same for any number of processes.
        import_module("drjit").set_thread_count(1)
        self._mi.set_variant("scalar_rgb")
        self._mi.set_log_level(self._mi.LogLevel.Error)
        self._matter = {name: self._matte(rgb) for name, rgb in ALBEDOS.items()}
        self._integrator = self._mi.load_dict({"type": "path", "max_depth": 3, "block_size": 32})
        self._fixed = {
            "floor": self._floor(),
            "sky": self._mi.load_dict({"type": "constant", "radiance": SKY, "sampling_weight": 0.0}),
        }
        self._fixed |= {f"lamp{i}": self._lamp(i) for i in range(len(LAMPS))}
        self._empty = empty_floor(*_centres((0, 0, self._width, self._height), pixel))
        self._empty_levels = _png_levels(self._empty)

    def pictures(self, scene: Scene, noise: int) -> Iterator[Levels]:
        """Yield the pictures of the first object, the first two, and so on, as (240, 320, 3) / pixel sRGB levels.

        `noise` seeds Mitsuba's sampler.
        """
        picture, levels = self._empty.copy(), self._empty_levels.copy()
        for count in range(1, len(scene) + 1):
            left, top, right, bottom = crop = window(scene[count - 1], self._pixel)
            rendered = self._render(scene[:count], crop, seed=noise)
            feather = FEATHER / self._pixel
            weight = _feather(right - left, left > 0, right < self._width, feather)[None, :, None]
            weight = weight * _feather(bottom - top, top > 0, bottom < self._height, feather)[:, None, None]
            inside = _silhouette(scene[count - 1], crop, self._pixel)
            change = _smoothed(rendered - picture[top:bottom, left:right], inside, side=SMOOTHING // self._pixel | 1)
            picture[top:bottom, left:right] += weight * change
            levels[top:bottom, left:right] = _png_levels(picture[top:bottom, left:right])
            yield levels.copy()

    def _render(self, objects: Scene, crop: Crop, seed: int) -> Linear:
        mi = self._mi
        left, top, right, bottom = crop
        away, down = math.cos(CAMERA_PITCH), math.sin(CAMERA_PITCH)
        eye = [0.0, -CAMERA_DISTANCE, CAMERA_ELEVATION]
        sensor = mi.load_dict(
            {
                "type": "perspective",
                "fov_axis": "x",
                "fov": math.degrees(2 * math.atan(PICTURE_WIDTH / 2 / FOCAL_LENGTH)),
                "to_world": mi.ScalarTransform4f().look_at(
                    origin=eye, target=[eye[0], eye[1] + away, eye[2] - down], up=[0, 0, 1]
                ),
                "film": {
                    "type": "hdrfilm",
                    "width": self._width,
                    "height": self._height,
                    "crop_offset_x": left,
                    "crop_offset_y": top,
                    "crop_width": right - left,
                    "crop_height": bottom - top,
                    "pixel_format": "rgb",
                    "component_format": "float32",
                    "rfilter": {"type": "gaussian", "stddev": filter_deviation(self._pixel) / self._pixel},
                },
                "sampler": {"type": "multijitter", "sample_count": SAMPLES_PER_PIXEL * self._pixel},
            }
        )
        content: dict[str, Any] = {"type": "scene"} | self._fixed
        for number, placed in enumerate(objects):
            for part, shape in enumerate(self._shapes(placed)):
                content[f"object{number}part{part}"] = shape
        scene = mi.load_dict(content)
        rendered = mi.render(scene, sensor=sensor, integrator=self._integrator, seed=seed)
        return np.asarray(rendered, dtype=np.float64)

    def _shapes(self, placed: PlacedObject) -> list[Any]:
        matter = self._matter[placed.colour]
        top, middle = [placed.x, placed.y, 2 * RADIUS], [placed.x, placed.y, RADIUS]
        if placed.shape == "sphere":
            return [self._mi.load_dict({"type": "sphere", "center": middle, "radius": RADIUS, "bsdf": matter})]
        if placed.shape == "cylinder":
            foot = [placed.x, placed.y, 0.0]
            side = {"type": "cylinder", "p0": foot, "p1": top, "radius": RADIUS, "bsdf": matter}
            place = self._mi.ScalarTransform4f().translate(top).scale([RADIUS, RADIUS, 1])
            return [self._mi.load_dict(side), self._mi.load_dict({"type": "disk", "to_world": place, "bsdf": matter})]
        points, normals, faces = _bevelled_cube(placed)
        properties = self._mi.Properties()
        properties["mesh_bsdf"] = matter
        mesh = self._mi.Mesh("cube", len(points), len(faces), has_vertex_normals=True, props=properties)
        parameters = self._mi.traverse(mesh)
        parameters["vertex_positions"] = points.ravel()
        parameters["vertex_normals"] = normals.ravel()
        parameters["faces"] = faces.ravel()
        parameters.update()
        return [mesh]

    def _matte(self, albedo: tuple[float, float, float]) -> Any:
        return self._mi.load_dict({"type": "diffuse", "reflectance": {"type": "rgb", "value": list(albedo)}})

    def _lamp(self, i: int) -> Any:
        place, target, half_side, radiance = LAMPS[i]
        transform = self._mi.ScalarTransform4f().look_at(origin=list(place), target=list(target), up=[0, 0, 1])
        return self._mi.load_dict(
            {
                "type": "rectangle",
                "to_world": transform.scale([half_side, half_side, 1]),
                "emitter": {"type": "area", "radiance": {"type": "rgb", "value": radiance}},
            }
        )

    def _floor(self) -> Any:
        mi = self._mi
        place = mi.ScalarTransform4f().translate([0, FLOOR_DEPTH / 2 - CAMERA_DISTANCE, 0])
        bitmap = mi.Bitmap(floor_albedo().astype(np.float32))
        texture = {"type": "bitmap", "bitmap": bitmap, "raw": True, "wrap_mode": "clamp"}
        return mi.load_dict(
            {
                "type": "rectangle",
                "to_world": place.scale([FLOOR_HALF_WIDTH, FLOOR_DEPTH / 2, 1]),
                "bsdf": {"type": "diffuse", "reflectance": texture},
            }
        )


def load_mitsuba() -> Any:
    """Import Mitsuba, and Pillow, which writes the pictures.

    Raises:
        LabError: one of them is not installed; the message says how to install it.
    """
    try:
        import_module("PIL.Image")
        return import_module("mitsuba")
    except ImportError as error:
        raise LabError(
            f"rendering scenes needs Mitsuba 3 and Pillow, and one cannot be imported ({error});\n"
            "install them with: pip install -e '.[scenes]'"
        ) from None


def window(placed: PlacedObject, pixel: int = 1) -> Crop:
    """Return the window to render for a new object, in the picture's pixels of this side."""
    box, margins = picture_box(placed), WINDOW_MARGINS
    return (
        max((math.floor(box[0]) - margins[0]) // pixel, 0),
        max((math.floor(box[1]) - margins[1]) // pixel, 0),
        min(-(-(math.ceil(box[2]) + margins[2]) // pixel), PICTURE_WIDTH // pixel),
        min(-(-(math.ceil(box[3]) + margins[3]) // pixel), PICTURE_HEIGHT // pixel),
    )


def filter_deviation(pixel: int) -> float:
    """Return the sample filter's standard deviation, in pixels of the full size.

    It is that of a full-size picture whose pixels are averaged over squares of this side:

        sqrt(FILTER_DEVIATION^2 + (pixel^2 - 1) / 12)
    """
    return math.sqrt(FILTER_DEVIATION**2 + (pixel**2 - 1) / 12)


def _centres(crop: Crop, pixel: int) -> tuple[Linear, Linear]:
    """Return the columns and rows of a crop's pixels, in pixels of the full size."""
    left, top, right, bottom = crop
    columns, rows = np.meshgrid(np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5)
    return pixel * columns, pixel * rows


def _feather(size: int, first_edge: bool, last_edge: bool, feather: float) -> Linear:
    """Return a weight for each of `size` pixels: 1, falling towards the edges that are inside the picture."""
    steps = np.arange(size) + 0.5
    weight = np.ones(size)
    if first_edge:
        weight = np.minimum(weight, steps / feather)
    if last_edge:
        weight = np.minimum(weight, (size - steps) / feather)
    return weight


def _silhouette(placed: PlacedObject, crop: Crop, pixel: int = 1) -> NDArray[np.bool_]:
    """Return which pixels of a crop the object affects, including those within the filter's radius.

    A point is in a convex hull widened by r if, in every direction, it lies at most r beyond the hull.
    """
    columns, rows = _centres(crop, pixel)
    reach = FILTER_REACH * filter_deviation(pixel)
    hull = np.asarray(outline(placed))
    reached = np.ones(columns.shape, dtype=bool)
    for angle in np.arange(32) * math.pi / 16:
        cos, sin = math.cos(angle), math.sin(angle)
        reached &= cos * columns + sin * rows <= (hull @ (cos, sin)).max() + reach
    return reached


def _smoothed(change: Linear, inside: NDArray[np.bool_], side: int) -> Linear:
    """Return a change of the picture, averaged over side x side pixels outside the new object.

    Outside the object, the change is a soft shadow or reflection, so all sharp detail in it is noise.
    """
    outside = np.where(inside, 0.0, 1.0)[..., None]
    sums = []
    for values in (change * outside, outside):
        padded = np.pad(values, [(side // 2, side // 2)] * 2 + [(0, 0)])
        rows = sum(padded[k : k + values.shape[0]] for k in range(side))
        sums.append(sum(np.asarray(rows)[:, k : k + values.shape[1]] for k in range(side)))
    return np.where(outside > 0, np.asarray(sums[0]) / np.maximum(sums[1], 1), change)


def _bevelled_cube(placed: PlacedObject) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint32]]:
    """Return the vertices, normals and triangles of a cube with rounded edges, rotated and placed.

    Each point p of a face's grid maps to q + BEVEL * n, where q is p clamped to the inner cube and
    n = (p - q) / |p - q|.
    """
    inner = RADIUS - BEVEL
    # Grid lines lie at the ends of the flat part, and close together on the rounded part.
    rounding = np.tan(np.linspace(0, math.pi / 4, 4))[1:] * BEVEL
    line = np.concatenate([-inner - rounding[::-1], [-inner, inner], inner + rounding])
    n = len(line)
    points: list[Linear] = []
    faces: list[NDArray[np.int64]] = []
    for axis in range(3):
        for side in (-1, 1):
            a, b = np.meshgrid(line, line, indexing="ij")
            face = np.empty((n, n, 3))
            face[..., axis], face[..., (axis + 1) % 3], face[..., (axis + 2) % 3] = side * RADIUS, a, b
            corner = np.arange(n * n).reshape(n, n)[:-1, :-1].ravel() + len(points) * n * n
            first, second = corner + n, corner + 1
            if side < 0:
                first, second = second, first
            faces += [np.stack([corner, first, corner + n + 1], 1), np.stack([corner, corner + n + 1, second], 1)]
            points.append(face.reshape(-1, 3))
    grid = np.concatenate(points)
    clamped = np.clip(grid, -inner, inner)
    normals = (grid - clamped) / np.linalg.norm(grid - clamped, axis=1, keepdims=True)
    cos, sin = math.cos(placed.yaw), math.sin(placed.yaw)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    surface = (clamped + BEVEL * normals) @ turn.T + (placed.x, placed.y, RADIUS)
    return surface.astype(np.float32), (normals @ turn.T).astype(np.float32), np.concatenate(faces).astype(np.uint32)


def _png_levels(linear: Linear) -> Levels:
    """Return the 8-bit sRGB levels of linear radiance."""
    clipped = np.clip(linear, 0, 1)
    srgb = np.where(clipped <= 0.0031308, 12.92 * clipped, 1.055 * clipped ** (1 / 2.4) - 0.055)
    return np.asarray(np.round(255 * srgb), dtype=np.uint8)
