"""Classifiers: networks that predict which classes an image shows, with one logit per class.

Each logit decides between a class and its absence, so an image may show any number of classes. One-label data is the
case of one class.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from evaluator.configuration import EvaluatorConfig
from lab.data.labelled_images import to_float
from lab.types import ClassLogits, Images, PixelImages


class ConvClassifier(nn.Module):
    """A small convolutional classifier: two pairs of 3x3 convolutions, pooling to 2x2, and one linear layer.

    Args:
        config: width and dropout; see `EvaluatorConfig`.
        channels: channels of the images, whose sides must be at least 4 pixels.
        classes: K, the number of logits.
    """

    def __init__(self, config: EvaluatorConfig, channels: int, classes: int) -> None:
        super().__init__()
        width = config.width
        self.features = nn.Sequential(
            *_convolution(channels, width),
            *_convolution(width, width),
            nn.MaxPool2d(2),
            *_convolution(width, 2 * width),
            *_convolution(2 * width, 2 * width),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        )
        self.head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(8 * width, classes))

    def forward(self, images: Images) -> ClassLogits:
        """Map images (B, C, H, W) in [-1, 1] to one logit per class, (B, K)."""
        logits: Tensor = self.head(self.features(images))
        return logits


class ObjectClassifier(nn.Module):
    """Three pairs of 3x3 convolutions, the maximum and the mean of each channel over the map, and one linear layer.

    The maximum detects an object anywhere in the image, however small it is and however many others there are.

    Args:
        config: width and dropout; see `EvaluatorConfig`.
        channels: channels of the images, whose sides must be at least 4 pixels.
        classes: K, the number of logits.
    """

    def __init__(self, config: EvaluatorConfig, channels: int, classes: int) -> None:
        super().__init__()
        width = config.width
        self.features = nn.Sequential(
            *_convolution(channels, width),
            *_convolution(width, width),
            nn.MaxPool2d(2),
            *_convolution(width, 2 * width),
            *_convolution(2 * width, 2 * width),
            nn.MaxPool2d(2),
            *_convolution(2 * width, 4 * width),
            *_convolution(4 * width, 4 * width),
        )
        self.head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(8 * width, classes))

    def forward(self, images: Images) -> ClassLogits:
        """Map images (B, C, H, W) in [-1, 1] to one logit per class, (B, K)."""
        features = self.features(images)
        logits: Tensor = self.head(torch.cat((features.amax(dim=(2, 3)), features.mean(dim=(2, 3))), dim=1))
        return logits


def _convolution(in_channels: int, out_channels: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels), nn.ReLU()


def resnet18(channels: int, classes: int, stride1: bool) -> nn.Module:
    """Return torchvision's ResNet-18 (He et al. 2016), freshly initialised, with one logit per class.

    Args:
        channels: channels of the images.
        classes: K, the number of logits.
        stride1: replace the stem, which reduces 32x32 to 8x8 before the first block, with one 3x3 convolution.
    """
    from torchvision.models import resnet18 as torchvision_resnet18

    network: nn.Module = torchvision_resnet18(weights=None, num_classes=classes)
    if stride1:
        network.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        network.maxpool = nn.Identity()
    elif channels != 3:
        network.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    return network


CLASSIFIERS: dict[str, Callable[[EvaluatorConfig, int, int], nn.Module]] = {
    "conv": ConvClassifier,
    "objects": ObjectClassifier,
    "resnet18": lambda config, channels, classes: resnet18(channels, classes, stride1=False),
    "resnet18_stride1": lambda config, channels, classes: resnet18(channels, classes, stride1=True),
}


def build_classifier(config: EvaluatorConfig, channels: int, classes: int, seed: int) -> nn.Module:
    """Return a freshly initialised classifier. The seed decides its weights; the global RNG state does not change."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        # Convolutions are faster in channels_last, on a CPU and on a GPU.
        return CLASSIFIERS[config.kind](config, channels, classes).to(memory_format=torch.channels_last)


@torch.inference_mode()
def logits_in_batches(classifier: nn.Module, pixels: PixelImages, batch_size: int = 1000) -> ClassLogits:
    """Return the logits of any number of 8-bit images, on the CPU.

    Args:
        classifier: a classifier in evaluation mode.
        pixels: the images, (N, C, H, W).
        batch_size: images per batch; only one batch is held as floats at a time.
    """
    device = next(classifier.parameters()).device
    return torch.cat([classifier(to_float(batch).to(device)).cpu() for batch in torch.split(pixels, batch_size)])


@torch.inference_mode()
def features_in_batches(
    classifier: nn.Module, pixels: PixelImages, batch_size: int = 1000
) -> Float[Tensor, "_ feature"]:
    """Return the inputs of a classifier's last linear layer for any number of 8-bit images, on the CPU.

    Args: see `logits_in_batches`.
    """
    last = [module for module in classifier.modules() if isinstance(module, nn.Linear)][-1]
    features: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0].cpu()))
    try:
        logits_in_batches(classifier, pixels, batch_size)
    finally:
        hook.remove()
    return torch.cat(features)
