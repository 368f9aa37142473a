"""Folders of pictures to hand in: 0.png, 1.png, ... with one picture for each label set, as scoring reads them."""

from pathlib import Path

from lab.errors import LabError
from lab.types import PixelImage, PixelImages


def require_drawable(channels: int) -> None:
    """Raise LabError unless images of this many channels are grey or RGB."""
    if channels not in (1, 3):
        raise LabError(f"the images have {channels} channels; a PNG file is written of 1 (grey) or 3 (RGB)")


def write_picture(path: Path, pixels: PixelImage) -> None:
    """Write one image as a PNG file: 1 channel as grey, 3 as RGB."""
    from PIL import Image

    require_drawable(len(pixels))
    content = pixels.permute(1, 2, 0).contiguous().numpy()
    Image.fromarray(content[..., 0] if content.shape[2] == 1 else content).save(path, format="PNG")


def write_pictures(folder: Path, pixels: PixelImages) -> None:
    """Write images as 0.png, 1.png, ... into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(pixels):
        write_picture(folder / f"{number}.png", image)
