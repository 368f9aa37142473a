"""Classifiers: networks that say which classes an image shows, one logit a class.

A logit is for one class against its absence, so that an image may show any number of classes; one-label data is the
case of one.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from evaluator.configuration import EvaluatorConfig
from lab.data.labelled_images import to_float
from lab.types import ClassLogits, Images, PixelImages


class ConvClassifier(nn.Module):
    """A small convolutional classifier: twice two 3x3 convolutions, pooled to 2x2, and one linear layer.

    Args:
        config: width and dropout; see `EvaluatorConfig`.
        channels: of the images; their side may be any of at least 4 pixels.
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
        """Return a logit for each class; (B, C, H, W) in [-1, 1] to (B, K)."""
        logits: Tensor = self.head(self.features(images))
        return logits


class ObjectClassifier(nn.Module):
    """Three times two 3x3 convolutions, then each channel's largest and mean value over the map, and one linear layer.

    The largest value says that an object is somewhere, however small it is and whatever else there is.

    Args:
        config: width and dropout; see `EvaluatorConfig`.
        channels: of the images; their side may be any of at least 4 pixels.
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
        """Return a logit for each class; (B, C, H, W) in [-1, 1] to (B, K)."""
        features = self.features(images)
        logits: Tensor = self.head(torch.cat((features.amax(dim=(2, 3)), features.mean(dim=(2, 3))), dim=1))
        return logits


def _convolution(in_channels: int, out_channels: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels), nn.ReLU()


def resnet18(channels: int, classes: int, stride1: bool) -> nn.Module:
    """Return torchvision's ResNet-18 (He et al. 2016), freshly initialised, with a logit for each class.

    Args:
        channels: of the images.
        classes: K, the number of logits.
        stride1: replace the stem, which reduces 32x32 to 8x8 before the first block, by one 3x3 convolution.
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
    """Return a freshly initialised classifier; the seed decides its weights and the global RNG is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        # channels_last, which convolutions are faster in on a CPU as on a GPU.
        return CLASSIFIERS[config.kind](config, channels, classes).to(memory_format=torch.channels_last)


@torch.inference_mode()
def logits_in_batches(classifier: nn.Module, pixels: PixelImages, batch_size: int = 1000) -> ClassLogits:
    """Return the logits of any number of 8-bit images, on the CPU.

    Args:
        classifier: in evaluation mode.
        pixels: (N, C, H, W).
        batch_size: images classified together; only as many are ever held in float.
    """
    device = next(classifier.parameters()).device
    return torch.cat([classifier(to_float(batch).to(device)).cpu() for batch in torch.split(pixels, batch_size)])


@torch.inference_mode()
def features_in_batches(
    classifier: nn.Module, pixels: PixelImages, batch_size: int = 1000
) -> Float[Tensor, "_ feature"]:
    """Return what a classifier's last linear layer is given, of any number of 8-bit images, on the CPU.

    Args: see `logits_in_batches`.
    """
    last = [module for module in classifier.modules() if isinstance(module, nn.Linear)][-1]
    given: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].cpu()))
    try:
        logits_in_batches(classifier, pixels, batch_size)
    finally:
        hook.remove()
    return torch.cat(given)
