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
    project,
)

Linear = NDArray[np.float64]
Levels = NDArray[np.uint8]

SAMPLES_PER_PIXEL = 6
"""The noise is then a few levels at full size, and invisible at 64 x 64."""

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

FILTER_RADIUS = 2.8
"""Radius of the sample filter in pixels, four standard deviations. Edges are about as soft as in i-CLEVR."""

LAMPS = (
    # position, target, half of the side, radiance
    ((1.0, 5.5, 5.0), (0.0, 0.0, 0.0), 1.0, 9.0),
    ((-8.0, -2.0, 5.0), (0.0, 0.0, 0.0), 1.5, 4.0),
    ((8.0, -11.0, 7.0), (0.0, 0.0, 0.0), 2.5, 8.5),
)
"""Square lamps: behind the centre, far left, and the key lamp to the right of the camera."""
SKY = 0.25
"""Radiance from all other directions."""

TONE_COLUMNS = (0, 20, 50, 80, 120, 160, 200, 240, 280, 320)
TONE_ROWS = (0, 30, 50, 65, 80, 90, 98, 106, 114, 124, 140, 160, 200, 240)
TONES = (
    (104, 105, 105, 105, 105, 105, 105, 104, 104, 103),
    (104, 105, 105, 105, 105, 104, 103, 102, 102, 101),
    (103, 103, 104, 106, 108, 108, 106, 104, 101, 100),
    (103, 104, 108, 112, 116, 118, 116, 110, 105, 101),
    (105, 110, 120, 123, 127, 132, 130, 121, 111, 106),
    (111, 125, 134, 132, 133, 137, 136, 127, 116, 109),
    (128, 143, 144, 137, 137, 139, 139, 130, 119, 112),
    (147, 156, 148, 139, 139, 140, 140, 132, 122, 114),
    (154, 157, 147, 139, 139, 139, 139, 132, 123, 116),
    (147, 147, 141, 136, 138, 138, 138, 132, 124, 117),
    (132, 133, 132, 132, 134, 136, 137, 134, 128, 120),
    (122, 124, 127, 129, 133, 137, 138, 137, 132, 126),
    (118, 120, 124, 129, 136, 142, 147, 148, 145, 138),
    (118, 121, 125, 131, 139, 147, 154, 157, 155, 149),
)
"""Brightness of the empty floor at these columns and rows of the picture, in sRGB levels."""

FLOOR_NOISE = 0.03
"""Standard deviation of the empty floor's noise, as a share of its radiance."""

FLOOR_HALF_WIDTH, FLOOR_DEPTH = 30.0, 80.0
"""Extent of the floor to each side, and away from the camera."""
FLOOR_TEXELS = 384
"""Side of the floor's albedo texture."""

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

    Raises:
        LabError: Mitsuba is not installed.
    """

    def __init__(self) -> None:
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
        self._empty = _empty_floor()
        self._empty_levels = _png_levels(self._empty)

    def pictures(self, scene: Scene, noise: int) -> Iterator[Levels]:
        """Yield the pictures of the first object, the first two, and so on, as (240, 320, 3) sRGB levels.

        `noise` seeds Mitsuba's sampler.
        """
        picture, levels = self._empty.copy(), self._empty_levels.copy()
        for count in range(1, len(scene) + 1):
            left, top, right, bottom = crop = window(scene[count - 1])
            rendered = self._render(scene[:count], crop, seed=noise)
            weight = _feather(right - left, left > 0, right < PICTURE_WIDTH)[None, :, None]
            weight = weight * _feather(bottom - top, top > 0, bottom < PICTURE_HEIGHT)[:, None, None]
            change = rendered - picture[top:bottom, left:right]
            picture[top:bottom, left:right] += weight * _smoothed(change, _silhouette(scene[count - 1], crop))
            levels[top:bottom, left:right] = _png_levels(picture[top:bottom, left:right])
            yield levels.copy()

    def _render(self, objects: Scene, crop: tuple[int, int, int, int], seed: int) -> Linear:
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
                    "width": PICTURE_WIDTH,
                    "height": PICTURE_HEIGHT,
                    "crop_offset_x": left,
                    "crop_offset_y": top,
                    "crop_width": right - left,
                    "crop_height": bottom - top,
                    "pixel_format": "rgb",
                    "component_format": "float32",
                    "rfilter": {"type": "gaussian", "stddev": FILTER_RADIUS / 4},
                },
                "sampler": {"type": "multijitter", "sample_count": SAMPLES_PER_PIXEL},
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
        """Return a diffuse floor with albedo = (desired tone) * pi / irradiance."""
        mi = self._mi
        steps = (np.arange(FLOOR_TEXELS) + 0.5) / FLOOR_TEXELS
        x = np.broadcast_to((2 * steps - 1) * FLOOR_HALF_WIDTH, (FLOOR_TEXELS, FLOOR_TEXELS))
        y = np.broadcast_to((steps * FLOOR_DEPTH - CAMERA_DISTANCE)[:, None], (FLOOR_TEXELS, FLOOR_TEXELS))
        # Points near the camera are outside its view; they take the tone of the nearest visible point.
        column, row, _ = project(x, np.maximum(y, -CAMERA_DISTANCE + 1), np.zeros_like(x))
        albedo = np.clip(_floor_tones(column, row) * math.pi / _irradiance(x, y)[..., None], 0, 0.95)
        place = mi.ScalarTransform4f().translate([0, FLOOR_DEPTH / 2 - CAMERA_DISTANCE, 0])
        bitmap = mi.Bitmap(albedo.astype(np.float32))
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


def window(placed: PlacedObject) -> tuple[int, int, int, int]:
    """Return the window to render for a new object, in pixels: left, top, right and bottom, the last two exclusive."""
    box = picture_box(placed)
    return (
        max(math.floor(box[0]) - WINDOW_MARGINS[0], 0),
        max(math.floor(box[1]) - WINDOW_MARGINS[1], 0),
        min(math.ceil(box[2]) + WINDOW_MARGINS[2], PICTURE_WIDTH),
        min(math.ceil(box[3]) + WINDOW_MARGINS[3], PICTURE_HEIGHT),
    )


def _feather(size: int, first_edge: bool, last_edge: bool) -> Linear:
    """Return a weight for each of `size` pixels: 1, falling towards the edges that are inside the picture."""
    steps = np.arange(size) + 0.5
    weight = np.ones(size)
    if first_edge:
        weight = np.minimum(weight, steps / FEATHER)
    if last_edge:
        weight = np.minimum(weight, (size - steps) / FEATHER)
    return weight


def _empty_floor() -> Linear:
    """Return the picture of the empty floor, computed from its tones instead of rendered.

    The noise is as large as that of a rendering. NumPy guarantees the same numbers in all versions for RandomState.
    """
    column, row = np.meshgrid(np.arange(PICTURE_WIDTH) + 0.5, np.arange(PICTURE_HEIGHT) + 0.5)
    noise = np.random.RandomState(0).standard_normal((PICTURE_HEIGHT, PICTURE_WIDTH, 1))
    return _floor_tones(column, row) * (1 + FLOOR_NOISE * noise)


def _silhouette(placed: PlacedObject, crop: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """Return which pixels of a crop the object affects, including those within the filter's radius.

    A point is in a convex hull widened by r if, in every direction, it lies at most r beyond the hull.
    """
    left, top, right, bottom = crop
    columns, rows = np.meshgrid(np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5)
    hull = np.asarray(outline(placed))
    reached = np.ones(columns.shape, dtype=bool)
    for angle in np.arange(32) * math.pi / 16:
        cos, sin = math.cos(angle), math.sin(angle)
        reached &= cos * columns + sin * rows <= (hull @ (cos, sin)).max() + FILTER_RADIUS
    return reached


def _smoothed(change: Linear, inside: NDArray[np.bool_]) -> Linear:
    """Return a change of the picture, averaged over SMOOTHING x SMOOTHING pixels outside the new object.

    Outside the object, the change is a soft shadow or reflection, so all sharp detail in it is noise.
    """
    outside = np.where(inside, 0.0, 1.0)[..., None]
    sums = []
    for values in (change * outside, outside):
        padded = np.pad(values, [(SMOOTHING // 2, SMOOTHING // 2)] * 2 + [(0, 0)])
        rows = sum(padded[k : k + values.shape[0]] for k in range(SMOOTHING))
        sums.append(sum(np.asarray(rows)[:, k : k + values.shape[1]] for k in range(SMOOTHING)))
    return np.where(outside > 0, np.asarray(sums[0]) / np.maximum(sums[1], 1), change)


def _floor_tones(column: Linear, row: Linear) -> Linear:
    """Return the radiance of the empty floor at points of the picture, shape (..., 3). Outside, the edge continues."""
    column, row = np.clip(column, 0, PICTURE_WIDTH), np.clip(row, 0, PICTURE_HEIGHT)
    tones = np.asarray(TONES, dtype=np.float64)
    i = np.clip(np.searchsorted(TONE_ROWS, row, side="right") - 1, 0, len(TONE_ROWS) - 2)
    j = np.clip(np.searchsorted(TONE_COLUMNS, column, side="right") - 1, 0, len(TONE_COLUMNS) - 2)
    rows, columns = np.asarray(TONE_ROWS), np.asarray(TONE_COLUMNS)
    u, v = ((row - rows[i]) / (rows[i + 1] - rows[i])), ((column - columns[j]) / (columns[j + 1] - columns[j]))
    upper = (1 - v) * tones[i, j] + v * tones[i, j + 1]
    lower = (1 - v) * tones[i + 1, j] + v * tones[i + 1, j + 1]
    level = (1 - u) * upper + u * lower
    # Half of red minus blue, in levels: the left patch is bluish, and the near right corner is warm.
    warm = 4 * np.clip((row - 100) / 140, 0, 1) * (0.3 + 0.7 * column / PICTURE_WIDTH)
    warm -= 3.5 * np.exp(-((column / 70) ** 2) - ((row - 110) / 30) ** 2)
    srgb = np.stack([level + 0.8 * warm, level, level - 1.2 * warm], axis=-1) / 255
    return np.asarray(np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4))


def _irradiance(x: Linear, y: Linear) -> Linear:
    """Return the irradiance at points of the empty floor, from the sky and the lamps.

    E = pi SKY + sum of radiance * cos(at the lamp) * cos(at the floor) * area / distance^2

    The sum over each lamp has 6 x 6 points.
    """
    total = np.full(x.shape, math.pi * SKY)
    grid = (np.arange(6) + 0.5) / 3 - 1
    for place, target, half_side, radiance in LAMPS:
        centre = np.asarray(place)
        facing = (np.asarray(target) - centre) / np.linalg.norm(np.asarray(target) - centre)
        across = np.cross(facing, (0, 0, 1))
        across /= np.linalg.norm(across)
        up = np.cross(across, facing)
        for a in grid:
            for b in grid:
                lamp_x, lamp_y, lamp_z = centre + half_side * (a * across + b * up)
                dx, dy, dz = x - lamp_x, y - lamp_y, -lamp_z
                squared = dx**2 + dy**2 + dz**2
                leaving = np.maximum(dx * facing[0] + dy * facing[1] + dz * facing[2], 0)
                total += radiance * leaving * lamp_z * (2 * half_side / 6) ** 2 / squared**2
    return total


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
