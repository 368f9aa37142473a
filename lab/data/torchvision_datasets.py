"""The training images of MNIST, FashionMNIST and CIFAR-10 from torchvision, downloaded once into a folder.

The lab makes its own splits and does not use torchvision's test images. They stay unseen for comparisons with published
numbers.
"""

import pickle
import tarfile
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch

from lab.data.labelled_images import LabelledImages, one_label_images
from lab.data.labels import ClassVocabulary
from lab.errors import LabError, lines_of

MNIST_FILES = tuple(
    f"{part}-{content}-ubyte" for part in ("train", "t10k") for content in ("images-idx3", "labels-idx1")
)
CIFAR10_FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")


def mnist(folder: Path) -> LabelledImages:
    """Return MNIST's 60,000 handwritten digits, 28x28, one channel, one label per image.

    Args:
        folder: contains MNIST/raw/; a download creates it if it is missing.

    Raises:
        LabError: the files are missing or damaged and cannot be downloaded.
    """
    from torchvision.datasets import MNIST

    source = _loaded(MNIST, folder, folder / "MNIST" / "raw", MNIST_FILES)
    return one_label_images(source.data.unsqueeze(1), source.targets, ClassVocabulary(tuple("0123456789")))


def fashion_mnist(folder: Path) -> LabelledImages:
    """Return FashionMNIST's 60,000 pieces of clothing, 28x28, one channel, one label per image.

    Args:
        folder: contains FashionMNIST/raw/; a download creates it if it is missing.

    Raises:
        LabError: the files are missing or damaged and cannot be downloaded.
    """
    from torchvision.datasets import FashionMNIST

    source = _loaded(FashionMNIST, folder, folder / "FashionMNIST" / "raw", MNIST_FILES)
    return one_label_images(source.data.unsqueeze(1), source.targets, ClassVocabulary(tuple(source.classes)))


def cifar10(folder: Path) -> LabelledImages:
    """Return CIFAR-10's 50,000 photographs, 32x32, three channels, one label per image.

    Args:
        folder: contains cifar-10-batches-py/ or cifar-10-python.tar.gz; a download creates them if they are missing.

    Raises:
        LabError: the files are missing or damaged and cannot be downloaded.
    """
    from torchvision.datasets import CIFAR10

    source = _loaded(CIFAR10, folder, folder / "cifar-10-batches-py", CIFAR10_FILES)
    pixels = torch.from_numpy(source.data).permute(0, 3, 1, 2).contiguous()
    return one_label_images(pixels, torch.tensor(source.targets), ClassVocabulary(tuple(source.classes)))


def _loaded(constructor: Callable[..., Any], folder: Path, place: Path, files: tuple[str, ...]) -> Any:
    """Return torchvision's dataset, or raise LabError with the files that belong in `place`."""
    try:
        return constructor(folder, train=True, download=True)
    except (
        OSError, RuntimeError, ValueError, AssertionError, EOFError, HTTPException, pickle.PickleError, tarfile.TarError
    ) as error:  # fmt: skip
        present = [file for file in files if (place / file).exists()]
        state = "damaged" if len(present) == len(files) else f"incomplete ({len(present)} of {len(files)} files)"
        raise LabError(
            f"{place}: {state}, and the download failed ({lines_of(error)[-1]:.120})\n"
            f"connect to the internet, or put these unpacked files there: {', '.join(files)}"
        ) from None
