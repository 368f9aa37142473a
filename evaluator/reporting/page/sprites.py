"""Sprites: many images as one PNG file, in rows of equal length, so that a page can cut them out again."""

from base64 import b64encode
from io import BytesIO

from PIL import Image

from evaluator.reporting.picture_folders import require_drawable
from lab.types import PixelImages


def sprite_columns(images: int) -> int:
    """Return the images in a row of a sheet: about as many as it has rows, because browsers limit both sides."""
    return max(1, int((images - 1) ** 0.5) + 1) if images else 1


def sprite_sheet(pixels: PixelImages) -> bytes:
    """Return images as one PNG file: image i stands in row i div n and column i mod n, n being `sprite_columns`.

    Args:
        pixels: at least one image, (N, C, H, W), with 1 channel (grey) or 3 (RGB).
    """
    count, channels, height, width = pixels.shape
    require_drawable(channels)
    columns = sprite_columns(count)
    rows = -(-count // columns)
    sheet = pixels.new_zeros(rows * columns, channels, height, width)
    sheet[:count] = pixels
    grid = sheet.view(rows, columns, channels, height, width).permute(0, 3, 1, 4, 2)
    content = grid.reshape(rows * height, columns * width, channels).numpy()
    file = BytesIO()
    Image.fromarray(content[..., 0] if channels == 1 else content).save(file, format="PNG")
    return file.getvalue()


def base64(content: bytes) -> str:
    """Return bytes as Base64 text."""
    return b64encode(content).decode("ascii")
