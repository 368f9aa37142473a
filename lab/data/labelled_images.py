"""Labelled images: 8-bit pixels, as their files hold them, which become float in [-1, 1] a batch at a time."""

import hashlib
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from lab.data.labels import ClassVocabulary
from lab.types import Conditions, ImageNumbers, Images, PixelImages


def to_float(pixels: PixelImages) -> Images:
    """Map 8-bit pixels 0 ... 255 to float32 images in [-1, 1]: x = pixel / 127.5 - 1."""
    return pixels.to(torch.float32) / 127.5 - 1


def to_pixels(images: Images) -> PixelImages:
    """Round float images to the 8 bits a saved PNG would hold; values outside [-1, 1] are clamped first."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def mirrored_at_random(images: Images, generator: torch.Generator) -> Images:
    """Mirror each image left to right with probability 1/2."""
    mirror = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(mirror, images.flip(3), images)


def spread_evenly(count: int, of: int) -> Tensor:
    """Return `count` indices out of `of`, evenly spaced; all of them where there are not more."""
    return torch.linspace(0, of - 1, min(count, of)).round().long()


@dataclass(frozen=True)
class LabelledImages:
    """Images, each with the label set it shows.

    Args:
        pixels: (N, C, H, W), 8 bits; may be a memory-mapped file.
        conditions: (N, K), multi-hot.
        vocabulary: the K class names.
        groups: (N,), any numbers; images of one group show the same scene and must not be divided among splits.
    """

    pixels: PixelImages
    conditions: Conditions
    vocabulary: ClassVocabulary
    groups: ImageNumbers

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)"""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    @property
    def digest(self) -> str:
        """The SHA-256 of all pixels, label sets and class names, as 16 hexadecimal digits."""
        told = hashlib.sha256("\n".join(self.vocabulary.names).encode())
        for part in (self.pixels, self.conditions):
            told.update(part.contiguous().numpy().data)
        return told.hexdigest()[:16]

    def subset(self, indices: Int64[Tensor, "subset"]) -> "LabelledImages":
        """Return the images at these indices, in this order."""
        return LabelledImages(self.pixels[indices], self.conditions[indices], self.vocabulary, self.groups[indices])


def one_label_images(pixels: PixelImages, classes: ImageNumbers, vocabulary: ClassVocabulary) -> LabelledImages:
    """Return images that show one class each, every image a group of its own.

    Args:
        pixels: (N, C, H, W), 8 bits.
        classes: (N,), the index of each image's class, 0 to K - 1.
        vocabulary: the K class names.
    """
    return LabelledImages(pixels, torch.eye(len(vocabulary))[classes], vocabulary, torch.arange(len(pixels)))
