"""Folders of pictures to hand in: 0.png, 1.png, ..., one per label set, with the names that scoring expects."""

from pathlib import Path

from lab.errors import LabError
from lab.types import PixelImage, PixelImages


def require_drawable(channels: int) -> None:
    """Raise LabError unless images have 1 channel (grey) or 3 channels (RGB)."""
    if channels not in (1, 3):
        raise LabError(f"the images have {channels} channels; PNG files are written only for 1 (grey) or 3 (RGB)")


def write_picture(path: Path, pixels: PixelImage) -> None:
    """Write one image as a PNG file: 1 channel as grey, 3 as RGB."""
    from PIL import Image

    require_drawable(len(pixels))
    content = pixels.permute(1, 2, 0).contiguous().numpy()
    Image.fromarray(content[..., 0] if content.shape[2] == 1 else content).save(path, format="PNG")


def write_pictures(folder: Path, pixels: PixelImages) -> None:
    """Write images as 0.png, 1.png, ... into a folder; create the folder if necessary."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(pixels):
        write_picture(folder / f"{number}.png", image)
