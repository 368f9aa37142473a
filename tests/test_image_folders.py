"""Scene folders and class folders: the pixels are torchvision's, decoded once; what cannot be used is counted."""

import json
import os
import shutil
import struct
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms

import lab.data.image_folders
from lab.configuration.data import DataConfig
from lab.data.datasets import DATASETS, stratified_splits
from lab.data.image_files import decoded_image
from lab.data.image_folders import class_folders, scene_folder, scene_groups
from lab.data.labelled_images import LabelledImages
from lab.data.labels import ClassVocabulary, load_image_labels, load_vocabulary
from lab.errors import LabError
from lab.machine.locks import locked

ICLEVR = Path(__file__).parents[1] / ".." / "shared" / "labels" / "iclevr"
CLASSES = ("red cube", "blue sphere", "green cylinder")


def drawn(number: int, mode: str = "RGBA", size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Return an opaque image of noise, for which any other way of resizing gives other pixels."""
    random = np.random.default_rng(number)
    pixels = random.integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    pixels[..., 3] = 255
    return Image.fromarray(pixels, "RGBA").convert(mode)


@pytest.fixture(scope="module")
def drawn_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes of three images, each showing one class more, and a seventh image of no scene."""
    folder = tmp_path_factory.mktemp("scenes")
    names = [f"CLEVR_train_{scene:06d}_{image}.png" for scene in (2066, 7) for image in range(3)]
    labels = {name: list(CLASSES[: int(name[-5]) + 1]) for name in names} | {"alone.png": ["blue sphere"]}
    for number, name in enumerate(labels):
        drawn(number, "RGB" if number % 2 else "RGBA").save(folder / name)
    write_labels(folder, labels)
    return folder


@pytest.fixture
def scenes(drawn_scenes: Path, tmp_path: Path) -> Path:
    return shutil.copytree(drawn_scenes, tmp_path / "scenes")


def write_labels(folder: Path, labels: dict[str, list[str]]) -> None:
    (folder / "objects.json").write_text(json.dumps({name: index for index, name in enumerate(CLASSES)}))
    (folder / "train.json").write_text(json.dumps(labels))


def read_labels(folder: Path) -> dict[str, list[str]]:
    return dict(json.loads((folder / "train.json").read_text()))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows by the name of every file that is decoded from now on."""
    names: list[str] = []
    decode = decoded_image

    def counted(path: Path, image_size: int) -> object:
        names.append(path.name)
        return decode(path, image_size)

    monkeypatch.setattr(lab.data.image_folders, "decoded_image", counted)
    return names


def coursework_pixels(path: Path, side: int) -> np.ndarray:
    """Return what the coursework's loader feeds its evaluator, before it becomes float."""
    image = transforms.Resize((side, side))(Image.open(path).convert("RGB"))
    return np.asarray(image).transpose(2, 0, 1)


@pytest.mark.parametrize("side", [32, 64])
def test_the_pixels_are_the_coursework_s(scenes: Path, tmp_path: Path, side: int) -> None:
    dataset = scene_folder(scenes, side, tmp_path / "cache")
    assert dataset.pixels.dtype == torch.uint8
    expected = [coursework_pixels(scenes / name, side) for name in read_labels(scenes)]
    assert np.array_equal(dataset.pixels.numpy(), np.stack(expected))


def test_labels_and_scenes_are_the_files(scenes: Path, tmp_path: Path) -> None:
    dataset = DATASETS["scenes"](DataConfig(dataset="scenes", image_size=8), scenes, tmp_path / "cache")
    assert dataset.vocabulary.names == CLASSES
    assert dataset.vocabulary.label_sets(dataset.conditions) == [tuple(row) for row in read_labels(scenes).values()]
    assert dataset.groups.tolist() == [0, 0, 0, 1, 1, 1, 2]


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["a_0.png", "a_1.jpg", "a_12.png", "b_0.png"], [0, 0, 0, 1]),
        (["a.png", "b.png", "a_x.png", "a_1x.png"], [0, 1, 2, 3]),
        (["s/a_0.png", "t/a_0.png", "./s/a_7.png"], [0, 1, 0]),
        (["a_0", "a_1", "a.png", "./a.png"], [0, 0, 1, 1]),
    ],
)
def test_a_scene_is_the_name_before_its_last_number(names: list[str], groups: list[int]) -> None:
    assert scene_groups(names).tolist() == groups


def test_what_is_decoded_once_is_read_from_the_cache(scenes: Path, tmp_path: Path, decoded: list[str]) -> None:
    first = scene_folder(scenes, 16, tmp_path / "cache")
    assert sorted(decoded) == sorted(read_labels(scenes))
    decoded.clear()
    again = scene_folder(scenes, 16, tmp_path / "cache")
    assert decoded == []
    assert torch.equal(again.pixels, first.pixels)
    # Labels are no part of the cache: they are read anew, and images are not.
    write_labels(scenes, read_labels(scenes) | {"alone.png": ["red cube"]})
    assert scene_folder(scenes, 16, tmp_path / "cache").conditions[-1].tolist() == [1, 0, 0]
    assert decoded == []


def test_what_a_killed_run_left_half_decoded_is_removed(scenes: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / ".0123abcd.npy.4711.partial").write_bytes(b"half")
    scene_folder(scenes, 16, cache)
    assert list(cache.glob(".*.partial")) == []


def test_what_another_run_decodes_meanwhile_is_waited_for(scenes: Path, tmp_path: Path, decoded: list[str]) -> None:
    expected = scene_folder(scenes, 16, tmp_path / "theirs").pixels
    decoded.clear()
    cache = tmp_path / "cache"
    with ThreadPoolExecutor() as pool:
        with locked(cache):
            second = pool.submit(scene_folder, scenes, 16, cache)
            with pytest.raises(TimeoutError):
                second.result(timeout=0.3)
            shutil.copytree(tmp_path / "theirs", cache, dirs_exist_ok=True, ignore=lambda *_: [".lock"])
        assert torch.equal(second.result(timeout=10).pixels, expected)
    assert decoded == []


def test_the_cache_cannot_be_written_through(scenes: Path, tmp_path: Path) -> None:
    first = scene_folder(scenes, 16, tmp_path / "cache")
    before = first.pixels.clone()
    first.pixels.zero_()
    assert torch.equal(scene_folder(scenes, 16, tmp_path / "cache").pixels, before)


@pytest.mark.parametrize("change", ["content", "time", "order", "fewer", "size", "format", "torn cache"])
def test_whatever_changes_pixels_is_decoded_again(
    scenes: Path, tmp_path: Path, decoded: list[str], change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene_folder(scenes, 16, tmp_path / "cache")
    decoded.clear()
    labels, side, image = read_labels(scenes), 16, scenes / "alone.png"
    if change == "content":
        drawn(99, size=(20, 20)).save(image)
    elif change == "time":
        os.utime(image, ns=(0, image.stat().st_mtime_ns + 1))
    elif change == "order":
        labels = dict(reversed(labels.items()))
    elif change == "fewer":
        del labels["alone.png"]
    elif change == "size":
        side = 8
    elif change == "format":
        monkeypatch.setattr(lab.data.image_folders, "CACHE_FORMAT", 0)
    else:
        (cache,) = (tmp_path / "cache").glob("*.npy")
        cache.write_bytes(cache.read_bytes()[:-1])
    write_labels(scenes, labels)
    pixels = scene_folder(scenes, side, tmp_path / "cache").pixels
    assert sorted(decoded) == sorted(labels)
    assert np.array_equal(pixels.numpy(), np.stack([coursework_pixels(scenes / name, side) for name in labels]))


def refusal(folder: Path, cache: Path) -> str:
    """Return what a scene folder is refused with, after checking that it is two lines and leaves nothing behind."""
    with pytest.raises(LabError) as error:
        scene_folder(folder, 16, cache)
    told = str(error.value)
    assert told.startswith(f"{folder}: ")
    assert len(told.splitlines()) == 2
    assert [path.name for path in cache.iterdir()] in ([], [".lock"])
    return told


def test_missing_images_are_counted(scenes: Path, tmp_path: Path) -> None:
    for name in ("CLEVR_train_002066_1.png", "alone.png"):
        (scenes / name).unlink()
    told = refusal(scenes, tmp_path / "cache")
    assert "2 of 7 images cannot be used: 2 missing\n" in told
    assert "the first is 'CLEVR_train_002066_1.png' (No such file" in told


def test_every_kind_is_counted_in_one_error(scenes: Path, tmp_path: Path) -> None:
    write_labels(scenes, {"../x.png": ["red cube"]} | read_labels(scenes))
    (scenes / "CLEVR_train_002066_1.png").unlink()
    (scenes / "CLEVR_train_002066_2.png").write_bytes(b"")
    (scenes / "alone.png").write_bytes(b"no image")
    told = refusal(scenes, tmp_path / "cache")
    assert "4 of 8 images cannot be used: 1 outside the folder, 1 missing, 2 unreadable\n" in told
    assert "the first is '../x.png' (it leads out of the folder)" in told


@pytest.mark.parametrize(
    "name",
    [
        "../secret.png",
        "inside/../../secret.png",
        "inside/../alone.png",
        "/etc/hostname",
        "..",
        "inside/..",
        "door/secret.png",
        "link.png",
    ],
)
def test_names_that_lead_out_are_refused_unread(scenes: Path, tmp_path: Path, decoded: list[str], name: str) -> None:
    drawn(1).save(tmp_path / "secret.png")
    (scenes / "inside").mkdir()
    (scenes / "door").symlink_to(tmp_path)
    (scenes / "link.png").symlink_to(tmp_path / "secret.png")
    labels = read_labels(scenes)
    write_labels(scenes, labels | {name: ["red cube"]})
    told = refusal(scenes, tmp_path / "cache")
    assert "1 of 8 images cannot be used: 1 outside the folder\n" in told
    assert f"the first is {name!r} (" in told
    assert sorted(decoded) == sorted(labels)


def test_an_absolute_name_is_refused_even_inside(scenes: Path, tmp_path: Path) -> None:
    write_labels(scenes, {str(scenes / "alone.png"): ["red cube"]})
    assert "1 outside the folder" in refusal(scenes, tmp_path / "cache")


def test_links_within_the_folder_and_to_it_are_followed(scenes: Path, tmp_path: Path) -> None:
    (scenes / "link.png").symlink_to("alone.png")
    write_labels(scenes, read_labels(scenes) | {"link.png": ["red cube"]})
    (tmp_path / "elsewhere").symlink_to(scenes)
    dataset = scene_folder(tmp_path / "elsewhere", 16, tmp_path / "cache")
    assert torch.equal(dataset.pixels[-1], dataset.pixels[-2])


@pytest.mark.parametrize(
    "name",
    ["", ".", "absent/a.png", "alone.png/a.png", "a\0b.png", "\ud800.png", "x" * 300 + ".png", "loop.png", "pipe.png"],
)
def test_names_no_image_can_have_are_refused(scenes: Path, tmp_path: Path, name: str) -> None:
    (scenes / "loop.png").symlink_to("loop.png")
    os.mkfifo(scenes / "pipe.png")
    write_labels(scenes, read_labels(scenes) | {name: ["red cube"]})
    assert "1 of 8 images cannot be used: 1 " in refusal(scenes, tmp_path / "cache")


def bomb() -> bytes:
    """Return a PNG of few bytes that claims 9,000 x 9,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("empty", "cannot identify image file)"),
        ("text", "cannot identify image file)"),
        ("truncated", ""),
        ("flipped", ""),
        ("bomb", "9000x9000; at most 50,000,000 pixels are allowed"),
        ("16 bits", "a channel of more than 8 bits"),
        ("postscript", "cannot identify image file)"),
        ("folder", "it is not a file"),
    ],
)
def test_an_unreadable_image_is_told(scenes: Path, tmp_path: Path, case: str, told: str) -> None:
    path = scenes / "alone.png"
    whole = path.read_bytes()
    if case == "16 bits":
        Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16)).save(path)
    elif case == "postscript":
        drawn(0, "RGB").save(path, format="EPS")
    elif case == "folder":
        path.unlink()
        path.mkdir()
    else:
        middle = len(whole) // 2
        path.write_bytes(
            {
                "empty": b"",
                "text": b"hello",
                "truncated": whole[:middle],
                "flipped": whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :],
                "bomb": bomb(),
            }[case]
        )
    message = refusal(scenes, tmp_path / "cache")
    assert "1 of 7 images cannot be used: 1 unreadable\nthe first is 'alone.png' (" in message
    assert told in message
    assert str(path) not in message


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    folder = tmp_path / "pets"
    for number, name in enumerate(
        ("dog/b.JPG", "dog/a.png", "cat/c.bmp", "cat/.hidden.png", "cat/notes.txt", ".git/x.png")
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".txt":
            path.write_text("no image")
        else:
            drawn(number, "L" if path.suffix == ".bmp" else "RGB", (50, 40)).save(path)
    (folder / "test.json").write_text('[["dog"]]')
    return folder


def test_class_folders_are_the_classes(pets: Path, tmp_path: Path) -> None:
    config = DataConfig(dataset="class_folders", image_size=12)
    dataset = DATASETS["class_folders"](config, pets, tmp_path / "cache")
    assert dataset.vocabulary.names == ("cat", "dog")
    assert dataset.conditions.tolist() == [[1, 0], [0, 1], [0, 1]]
    assert dataset.groups.tolist() == [0, 1, 2]
    expected = [coursework_pixels(pets / name, 12) for name in ("cat/c.bmp", "dog/a.png", "dog/b.JPG")]
    assert np.array_equal(dataset.pixels.numpy(), np.stack(expected))


def test_mistakes_in_class_folders_are_told(pets: Path, tmp_path: Path) -> None:
    def told(folder: Path) -> str:
        with pytest.raises(LabError) as error:
            class_folders(folder, 12, tmp_path / "cache")
        return str(error.value)

    assert told(tmp_path / "none").startswith(f"{tmp_path / 'none'}: cannot read this folder of images (No such file")
    assert "no class folder in it" in told(pets / "cat")
    (pets / "dog" / "a.png").write_bytes(b"")
    assert "1 of 3 images cannot be used: 1 unreadable\nthe first is 'dog/a.png'" in told(pets)
    (pets / "ant").mkdir()
    assert told(pets).startswith(f"{pets / 'ant'}: this class folder has no images (.png")


@given(st.integers(0, 100))
def test_the_scenes_of_a_folder_stay_whole(seed: int) -> None:
    names = [f"CLEVR_train_{scene:06d}_{image}.png" for image in range(3) for scene in range(30)]
    pixels = torch.zeros(90, 3, 1, 1, dtype=torch.uint8)
    vocabulary = ClassVocabulary(CLASSES)
    dataset = LabelledImages(pixels, vocabulary.conditions([CLASSES] * 90), vocabulary, scene_groups(names))
    splits = stratified_splits(dataset, 0.3, 0.2, seed)
    for part, scenes in ((splits.generator, 15), (splits.evaluator, 9), (splits.held_out, 6)):
        assert sorted(Counter(part.groups.tolist()).values()) == [3] * scenes


@pytest.mark.slow
@pytest.mark.skipif(not ICLEVR.is_dir(), reason="the coursework's label files are not beside this checkout")
def test_the_coursework_s_18009_images_are_6003_scenes() -> None:
    vocabulary = load_vocabulary(ICLEVR / "objects.json")
    labels = load_image_labels(ICLEVR / "train.json", vocabulary)
    groups = scene_groups(labels)
    assert len(labels) == 18_009
    assert Counter(groups.bincount().tolist()) == {3: 6003}
    conditions = vocabulary.conditions(tuple(labels.values()))
    dataset = LabelledImages(torch.zeros(18_009, 3, 1, 1, dtype=torch.uint8), conditions, vocabulary, groups)
    splits = stratified_splits(dataset, 0.3, 0.2, 0)
    sizes = [len(part) for part in (splits.generator, splits.evaluator, splits.held_out)]
    assert sizes == pytest.approx([18_009 * 0.5, 18_009 * 0.3, 18_009 * 0.2], abs=3)
    for part in (splits.generator, splits.evaluator, splits.held_out):
        torch.testing.assert_close(part.conditions.mean(dim=0), conditions.mean(dim=0), atol=0.01, rtol=0)
