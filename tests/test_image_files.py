"""One image file as pixels: turned, laid over white, and otherwise what Pillow and torchvision make of it."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from evaluator.classifiers.pictures import numbered_pictures
from lab.data.image_files import as_seen, decoded_image
from lab.data.image_folders import class_folders
from lab.errors import LabError

LOOK = Path(__file__).parents[1] / ".." / "shared" / "look"
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


def noise(channels: int, size: tuple[int, int] = (40, 24)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
    return Image.fromarray(pixels)


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def reopened(image: Image.Image, kind: str, **options: Any) -> Image.Image:
    image.save(file := BytesIO(), kind, **options)
    return Image.open(file)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})],
)
def test_a_photograph_is_turned_once_as_its_orientation_says(
    kind: str, options: dict[str, Any], orientation: int
) -> None:
    plain = reopened(noise(3), kind, **options)
    expected = plain.transpose(TURNS[orientation]) if orientation in TURNS else plain
    seen = as_seen(reopened(noise(3), kind, exif=oriented(orientation), **options))
    assert np.array_equal(np.asarray(seen), np.asarray(expected))


def decoded(path: Path, side: int) -> np.ndarray:
    pixels = decoded_image(path, side)
    assert isinstance(pixels, np.ndarray)
    return pixels


def test_a_photograph_is_turned_before_it_is_resized(tmp_path: Path) -> None:
    noise(3).save(path := tmp_path / "a.png", exif=oriented(6))
    resized = transforms.Resize((9, 9))(noise(3).transpose(TURNS[6]))
    assert np.array_equal(decoded(path, 9), np.asarray(resized).transpose(2, 0, 1))


def test_damaged_exif_data_cost_no_image(tmp_path: Path) -> None:
    noise(3).save(path := tmp_path / "a.png", exif=b"Exif\0\0no EXIF data")
    expected = np.asarray(transforms.Resize((9, 9))(noise(3))).transpose(2, 0, 1)
    assert np.array_equal(decoded(path, 9), expected)


def palette() -> Image.Image:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 40, 50, 60])
    image.putdata([0, 1])
    return image


@pytest.mark.parametrize(
    ("image", "kind", "options", "seen"),
    [
        (Image.new("RGBA", (1, 1), (10, 20, 30, 0)), "PNG", {}, [[255, 255, 255]]),
        (Image.new("RGBA", (1, 1), (0, 0, 0, 51)), "PNG", {}, [[204, 204, 204]]),
        (Image.new("RGBA", (1, 1), (10, 20, 30, 255)), "PNG", {}, [[10, 20, 30]]),
        (Image.new("LA", (1, 1), (10, 0)), "PNG", {}, [[255, 255, 255]]),
        (Image.new("LA", (1, 1), (10, 255)), "PNG", {}, [[10, 10, 10]]),
        (palette(), "PNG", {}, [[0, 0, 0], [40, 50, 60]]),
        (palette(), "PNG", {"transparency": 0}, [[255, 255, 255], [40, 50, 60]]),
        (palette(), "PNG", {"transparency": bytes([51, 255])}, [[204, 204, 204], [40, 50, 60]]),
        (palette(), "GIF", {"transparency": 1}, [[0, 0, 0], [255, 255, 255]]),
        (Image.new("RGB", (1, 1), (1, 2, 3)), "PNG", {"transparency": (1, 2, 3)}, [[255, 255, 255]]),
        (Image.new("L", (1, 1), 7), "PNG", {"transparency": 7}, [[255, 255, 255]]),
        (Image.new("RGBA", (1, 1), (10, 20, 30, 0)), "WEBP", {"lossless": True, "exact": True}, [[255, 255, 255]]),
        (Image.new("RGBA", (1, 1), (10, 20, 30, 0)), "TIFF", {}, [[255, 255, 255]]),
    ],
)
def test_what_is_transparent_is_white(
    image: Image.Image, kind: str, options: dict[str, Any], seen: list[list[int]]
) -> None:
    found = np.asarray(as_seen(reopened(image, kind, **options)).convert("RGB"))
    assert found.reshape(-1, 3).tolist() == seen


def test_a_palette_with_an_alpha_channel_is_laid_over_white() -> None:
    assert np.asarray(as_seen(Image.new("PA", (1, 1))).convert("RGB")).tolist() == [[[255, 255, 255]]]


def test_the_hidden_colour_of_a_cut_out_never_shows(tmp_path: Path) -> None:
    """A disc cut out of a red background, as drawing programs save it, has no red rim when it is made small."""
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[..., 0] = 255
    y, x = np.mgrid[:64, :64]
    pixels[(x - 32) ** 2 + (y - 32) ** 2 < 400] = (0, 0, 255, 255)
    Image.fromarray(pixels).save(path := tmp_path / "a.png")
    red, green, _ = decoded(path, 16).astype(int)
    assert np.array_equal(red, green)
    assert (red[0] == 255).all()


@pytest.mark.skipif(not LOOK.is_dir(), reason="the coursework's pictures are not beside this checkout")
def test_the_coursework_s_pictures_keep_every_bit() -> None:
    paths = sorted(LOOK.glob("*.png"))
    assert paths
    for path in paths:
        image = Image.open(path)
        if image.mode == "RGBA":
            assert image.getchannel("A").getextrema() == (255, 255)
        coursework = transforms.Resize((64, 64))(image.convert("RGB"))
        assert np.array_equal(decoded(path, 64), np.asarray(coursework).transpose(2, 0, 1))


def test_pictures_to_be_scored_are_seen_alike(tmp_path: Path) -> None:
    noise(3, (4, 6)).save(tmp_path / "0.png", exif=oriented(6))
    Image.new("RGBA", (6, 4), (10, 20, 30, 0)).save(tmp_path / "1.png")
    turned, transparent = numbered_pictures(tmp_path, 2, (3, 4, 6)).numpy()
    assert np.array_equal(turned.transpose(1, 2, 0), np.asarray(noise(3, (4, 6)).transpose(TURNS[6])))
    assert (transparent == 255).all()
    assert (numbered_pictures(tmp_path, 2, (1, 4, 6))[1] == 255).all()
    with pytest.raises(LabError, match="2 of 2 pictures cannot be scored; first problem: 0.png is 6x4, not 4x6"):
        numbered_pictures(tmp_path, 2, (3, 6, 4))


def test_class_folders_hold_photographs_upright(tmp_path: Path) -> None:
    (folder := tmp_path / "pets" / "dog").mkdir(parents=True)
    half = np.zeros((20, 40, 3), np.uint8)
    half[:, :20] = 255  # the left half is white: on top, once it is turned clockwise
    Image.fromarray(half).save(folder / "a.png", exif=oriented(6))
    (pixels,) = class_folders(tmp_path / "pets", 8, tmp_path / "cache").pixels
    assert pixels[0, :, 0].tolist()[:3] == [255] * 3
    assert pixels[0, :, 0].tolist()[-3:] == [0] * 3
    assert (pixels == pixels[:, :, :1]).all()
