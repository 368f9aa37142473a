"""Pictures made by any program, read as the evaluator wants them."""

from pathlib import Path

import numpy as np
import torch

from lab.errors import LabError
from lab.types import PixelImages


def numbered_pictures(folder: Path, count: int, image_shape: tuple[int, int, int]) -> PixelImages:
    """Read 0.png, 1.png, ... from a folder, as 8-bit pixels.

    Args:
        folder: of the PNG files.
        count: how many there must be.
        image_shape: (channels, height, width) that the evaluator takes; 1 channel reads grey, 3 reads RGB, and an
            alpha channel is left out. Nothing is resized: how a picture is made small is its maker's to decide.

    Raises:
        LabError: the folder is missing, or pictures are missing, unreadable or of another size; the message counts
            them and names the first.
    """
    from PIL import Image

    if not folder.is_dir():
        raise LabError(f"{folder}: no such folder of pictures")
    channels, height, width = image_shape
    pixels = np.empty((count, height, width, channels), dtype=np.uint8)
    wrong: list[str] = []
    for number in range(count):
        path = folder / f"{number}.png"
        try:
            if not path.is_file():
                wrong.append(f"{path.name} is missing")
                continue
            # PNG alone, because Pillow would start other programs for some of the formats it knows.
            with Image.open(path, formats=("PNG",)) as picture:
                if picture.mode.startswith(("I", "F")):
                    # Pillow would clamp these to 255, and a picture would come out white.
                    wrong.append(f"{path.name} has one channel of more than 8 bits")
                elif picture.size == (width, height):
                    content = np.asarray(picture.convert("RGB" if channels == 3 else "L"))
                    pixels[number] = content.reshape(height, width, channels)
                else:
                    wrong.append(f"{path.name} is {picture.size[0]}x{picture.size[1]} and not {width}x{height}")
        except Exception as error:  # Pillow's readers raise nearly anything over a damaged file
            wrong.append(f"{path.name} cannot be read ({error!s:.60})")
    if wrong:
        raise LabError(
            f"{folder}: {len(wrong)} of {count} pictures cannot be scored, the first: {wrong[0]}\n"
            f"allowed are 0.png to {count - 1}.png, one a label set, each {width}x{height}"
        )
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
