"""Reads an image file as square RGB pixels, upright and opaque, or says why it cannot be used.

Every image is converted to RGB and resized to a square without cropping: bilinear with antialiasing, like
torchvision's `Resize((side, side))` on an RGB image.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps

from lab.errors import LabError, lines_of
from lab.types import PixelImage

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
# Named, because Pillow would start other programs for some of the formats it knows.
PILLOW_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
LARGEST_IMAGE = 50_000_000
"""Pixels of the largest image decoded; a small file can claim to hold any number."""
BACKGROUND = (255, 255, 255)
"""What transparent images are laid over: white, as on paper and in most viewers, where dark drawings stay visible."""


@dataclass(frozen=True)
class Refused:
    """Why an image cannot be used."""

    kind: Literal["missing", "outside the folder", "unreadable"]
    reason: str


def as_seen(image: Image.Image) -> Image.Image:
    """Return an image as a viewer shows it: turned as its EXIF orientation says, and laid over `BACKGROUND`.

    An opaque image keeps every bit, whether or not it has an alpha channel. The image given may be changed.
    """
    image.load()
    # Damaged EXIF data say nothing of the pixels, which are whole; in place, because a copy of each image takes time.
    with suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)
    if not image.has_transparency_data:
        return image
    layer = image.convert("RGBA")
    if layer.getchannel("A").getextrema() == (255, 255):
        return image
    return Image.alpha_composite(Image.new("RGBA", layer.size, (*BACKGROUND, 255)), layer)


def decoded_image(path: Path, image_size: int) -> UInt8[np.ndarray, "3 side side"] | Refused:
    """Return an image file as RGB pixels of this side, or why it cannot be read."""
    try:
        with Image.open(path, formats=PILLOW_FORMATS) as image:
            width, height = image.size
            if width * height > LARGEST_IMAGE:
                return Refused("unreadable", f"{width}x{height}; at most {LARGEST_IMAGE:,} pixels are allowed")
            if image.mode.startswith(("I", "F")):
                # Pillow would clamp these to 255, and a photograph would come out white.
                return Refused("unreadable", "it has a channel of more than 8 bits; convert it to 8")
            square = as_seen(image).convert("RGB").resize((image_size, image_size), Image.Resampling.BILINEAR)
            return np.asarray(square).transpose(2, 0, 1)
    except FileNotFoundError:
        return Refused("missing", "no such file")
    except Exception as error:  # Pillow's readers raise nearly anything over a damaged file
        return Refused("unreadable", lines_of(error)[0].replace(f" {str(path)!r}", ""))


def read_image(path: Path, channels: int, image_size: int) -> PixelImage:
    """Return an image file as pixels of this side: 3 channels as RGB, 1 channel as grey.

    Raises:
        LabError: the file is missing or cannot be read as an image.
    """
    pixels = decoded_image(path, image_size)
    if isinstance(pixels, Refused):
        raise LabError(f"{path}: cannot be used as an image ({pixels.reason})")
    if channels == 1:
        grey = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).convert("L")
        pixels = np.asarray(grey)[None]
    return torch.from_numpy(pixels.copy())
