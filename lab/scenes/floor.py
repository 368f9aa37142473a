"""The floor and its light. The floor's albedo is chosen to give the empty floor fixed tones, as i-CLEVR's has."""

import math

import numpy as np
from numpy.typing import NDArray

from lab.scenes.layout import CAMERA_DISTANCE, PICTURE_HEIGHT, PICTURE_WIDTH, project

Linear = NDArray[np.float64]
"""Linear radiance, not sRGB."""

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


def empty_floor(column: Linear, row: Linear) -> Linear:
    """Return the picture of the empty floor at points of the picture, computed from its tones instead of rendered.

    The noise is as large as that of a rendering. NumPy guarantees the same numbers in all versions for RandomState.
    """
    noise = np.random.RandomState(0).standard_normal((*column.shape, 1))
    return _floor_tones(column, row) * (1 + FLOOR_NOISE * noise)


def floor_albedo() -> Linear:
    """Return the albedo of the floor's texels: (desired tone) * pi / irradiance."""
    steps = (np.arange(FLOOR_TEXELS) + 0.5) / FLOOR_TEXELS
    x = np.broadcast_to((2 * steps - 1) * FLOOR_HALF_WIDTH, (FLOOR_TEXELS, FLOOR_TEXELS))
    y = np.broadcast_to((steps * FLOOR_DEPTH - CAMERA_DISTANCE)[:, None], (FLOOR_TEXELS, FLOOR_TEXELS))
    # Points near the camera are outside its view; they take the tone of the nearest visible point.
    column, row, _ = project(x, np.maximum(y, -CAMERA_DISTANCE + 1), np.zeros_like(x))
    return np.clip(_floor_tones(column, row) * math.pi / _irradiance(x, y)[..., None], 0, 0.95)


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
