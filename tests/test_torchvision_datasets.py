"""torchvision's datasets from a folder that is there, and what is told where it is not; nothing is downloaded."""

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torchvision

from lab.data.labelled_images import LabelledImages
from lab.data.labels import load_vocabulary
from lab.data.torchvision_datasets import CIFAR10_FILES, MNIST_FILES, cifar10, fashion_mnist, mnist
from lab.errors import LabError

PROJECT = Path(__file__).parents[1]
RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every download be refused at once, as it is on a machine without a network."""
    nowhere = "http://127.0.0.1:9/"
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [nowhere])
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "mirrors", [nowhere])
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", f"{nowhere}cifar-10-python.tar.gz")


def write_mnist(raw: Path) -> tuple[np.ndarray, np.ndarray]:
    """Write four files of the MNIST form, 20 training images, and return these images and their classes."""
    images = RANDOM.integers(0, 256, (20, 28, 28), dtype=np.uint8)
    classes = np.arange(20, dtype=np.uint8) % 10
    raw.mkdir(parents=True)
    for part, count in (("train", 20), ("t10k", 5)):
        shape = b"".join(side.to_bytes(4, "big") for side in (count, 28, 28))
        (raw / f"{part}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + shape + images[:count].tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + shape[:4] + classes[:count].tobytes())
    return images, classes


@pytest.mark.parametrize(
    ("load", "name", "data"), [(mnist, "MNIST", "mnist"), (fashion_mnist, "FashionMNIST", "fashion_mnist")]
)
def test_files_that_are_there_are_read(
    tmp_path: Path, load: Callable[[Path], LabelledImages], name: str, data: str
) -> None:
    images, classes = write_mnist(tmp_path / name / "raw")
    dataset = load(tmp_path)
    assert np.array_equal(dataset.pixels[:, 0].numpy(), images)
    assert dataset.conditions.argmax(dim=1).tolist() == classes.tolist()
    assert len(set(dataset.groups.tolist())) == 20
    assert dataset.vocabulary == load_vocabulary(PROJECT / "data" / data / "objects.json")


def test_cifar10_is_read_channels_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "cifar-10-batches-py"
    place.mkdir()
    images = RANDOM.integers(0, 256, (5, 4, 3, 32, 32), dtype=np.uint8)
    names = list(load_vocabulary(PROJECT / "data" / "cifar10" / "objects.json").names)
    batches = {
        f"data_batch_{number + 1}": {"data": images[number].reshape(4, -1), "labels": [0, 1, 2, 9]}
        for number in range(5)
    }
    sums = {}
    for file, content in {
        **batches,
        "test_batch": batches["data_batch_1"],
        "batches.meta": {"label_names": names},
    }.items():
        (place / file).write_bytes(pickle.dumps(content))
        sums[file] = hashlib.md5((place / file).read_bytes()).hexdigest()
    source = torchvision.datasets.CIFAR10
    monkeypatch.setattr(source, "train_list", [[file, sums[file]] for file in batches])
    monkeypatch.setattr(source, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(source, "meta", source.meta | {"md5": sums["batches.meta"]})
    dataset = cifar10(tmp_path)
    assert np.array_equal(dataset.pixels.numpy(), images.reshape(20, 3, 32, 32))
    assert dataset.conditions.argmax(dim=1).tolist() == [0, 1, 2, 9] * 5
    assert list(dataset.vocabulary.names) == names


@pytest.mark.parametrize(
    ("load", "place", "files"),
    [
        (mnist, "MNIST/raw", MNIST_FILES),
        (fashion_mnist, "FashionMNIST/raw", MNIST_FILES),
        (cifar10, "cifar-10-batches-py", CIFAR10_FILES),
    ],
)
def test_offline_and_absent_says_which_files_go_where(
    tmp_path: Path, load: Callable[[Path], LabelledImages], place: str, files: tuple[str, ...]
) -> None:
    with pytest.raises(LabError) as error:
        load(tmp_path / "images")
    told = str(error.value)
    assert told.startswith(
        f"{tmp_path / 'images' / place}: incomplete (0 of {len(files)} files), and the download failed"
    )
    assert all(file in told for file in files)
    assert len(told.splitlines()) == 2


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    write_mnist(raw)
    images = raw / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:1000])
    with pytest.raises(LabError, match="raw: damaged"):
        mnist(tmp_path)
