"""Labelled images, stored as 8-bit pixels and converted to float in [-1, 1] batch by batch."""

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
    """Clamp float images to [-1, 1] and round them to 8-bit pixels 0 ... 255, as in a PNG file."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def mirrored_at_random(images: Images, generator: torch.Generator) -> Images:
    """Mirror each image horizontally with probability 1/2."""
    mirror = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(mirror, images.flip(3), images)


def spread_evenly(count: int, of: int) -> Tensor:
    """Return `count` evenly spaced indices from 0 to `of` - 1, or all of them if `of` <= `count`."""
    return torch.linspace(0, of - 1, min(count, of)).round().long()


@dataclass(frozen=True)
class LabelledImages:
    """Images and their label sets.

    Args:
        pixels: (N, C, H, W), 8 bits; may be a memory-mapped file.
        conditions: (N, K), multi-hot.
        vocabulary: the K class names.
        groups: (N,), any integers. Images of a group show the same scene and belong to the same split.
    """

    pixels: PixelImages
    conditions: Conditions
    vocabulary: ClassVocabulary
    groups: ImageNumbers

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the images."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    @property
    def digest(self) -> str:
        """The SHA-256 of all pixels, label sets and class names, as 16 hexadecimal digits."""
        digest = hashlib.sha256("\n".join(self.vocabulary.names).encode())
        for part in (self.pixels, self.conditions):
            digest.update(part.contiguous().numpy().data)
        return digest.hexdigest()[:16]

    def subset(self, indices: Int64[Tensor, "subset"]) -> "LabelledImages":
        """Return the images at these indices, in this order."""
        return LabelledImages(self.pixels[indices], self.conditions[indices], self.vocabulary, self.groups[indices])


def one_label_images(pixels: PixelImages, classes: ImageNumbers, vocabulary: ClassVocabulary) -> LabelledImages:
    """Return images with one class each. Every image is a separate group.

    Args:
        pixels: (N, C, H, W), 8 bits.
        classes: (N,), the index of each image's class, 0 to K - 1.
        vocabulary: the K class names.
    """
    return LabelledImages(pixels, torch.eye(len(vocabulary))[classes], vocabulary, torch.arange(len(pixels)))
