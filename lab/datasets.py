"""Labelled images, and the disjoint splits they are divided into.

Images are kept as 8-bit pixels, as their files are, and become float in [-1, 1] a batch at a time.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from lab.labels import ClassVocabulary
from lab.types import Conditions, Images, PixelImages


def to_float(pixels: PixelImages) -> Images:
    """Map 8-bit pixels 0 ... 255 to float32 images in [-1, 1]: x = pixel / 127.5 - 1."""
    return pixels.to(torch.float32) / 127.5 - 1


def to_pixels(images: Images) -> PixelImages:
    """Round float images to the 8 bits a saved PNG would hold; values outside [-1, 1] are clamped first."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


@dataclass(frozen=True)
class LabelledImages:
    """Images, each with the label set it shows.

    Args:
        pixels: (N, C, H, W), 8 bits.
        conditions: (N, K), multi-hot.
        vocabulary: the K class names.
    """

    pixels: PixelImages
    conditions: Conditions
    vocabulary: ClassVocabulary

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)"""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    def subset(self, indices: Int64[Tensor, "subset"]) -> "LabelledImages":
        """Return the images at these indices, in this order."""
        return LabelledImages(self.pixels[indices], self.conditions[indices], self.vocabulary)


@dataclass(frozen=True)
class Splits:
    """Three disjoint parts of a dataset: what the generator sees, what the evaluator sees, what neither sees."""

    generator: LabelledImages
    evaluator: LabelledImages
    held_out: LabelledImages


def digits() -> LabelledImages:
    """Return scikit-learn's 1,797 real handwritten digits, 8x8, one channel, one label an image.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.
    """
    from sklearn.datasets import load_digits

    source = load_digits()
    pixels = torch.from_numpy(np.rint(source.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    conditions = torch.eye(10)[torch.from_numpy(source.target.astype(np.int64))]
    return LabelledImages(pixels, conditions, ClassVocabulary(tuple(str(name) for name in source.target_names)))


DATASETS: dict[str, Callable[[], LabelledImages]] = {"digits": digits}


def stratified_splits(dataset: LabelledImages, evaluator_share: float, held_out_share: float, seed: int) -> Splits:
    """Divide a dataset into disjoint splits in which every label set has its share; the generator gets the rest.

    Args:
        dataset: every label set occurs at least three times.
        evaluator_share: share of all images for the evaluator, in (0, 1).
        held_out_share: share of all images held out from both, in (0, 1).
        seed: of the shuffle; the same seed gives the same splits.
    """
    from sklearn.model_selection import train_test_split

    strata = np.unique(dataset.conditions.numpy(), axis=0, return_inverse=True)[1].ravel()
    everything = np.arange(len(dataset))
    rest, held_out = train_test_split(everything, test_size=held_out_share, random_state=seed, stratify=strata)
    generator, evaluator = train_test_split(
        rest, test_size=evaluator_share / (1 - held_out_share), random_state=seed, stratify=strata[rest]
    )
    return Splits(*(dataset.subset(torch.from_numpy(np.sort(part))) for part in (generator, evaluator, held_out)))
