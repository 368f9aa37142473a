"""Settings of the evaluators. Importing this module does not import torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lab.configuration.checks import require_range, require_types

ClassifierKind = Literal["conv", "objects", "resnet18", "resnet18_stride1"]


@dataclass(frozen=True)
class EvaluatorConfig:
    """The classifier that judges the images, and its training on the evaluator's split."""

    kind: ClassifierKind = "conv"
    """The architecture. conv: a small network for small images. objects: a network for small objects anywhere in the
    image. resnet18: torchvision's ResNet-18, which the i-CLEVR coursework uses at 64x64. resnet18_stride1: ResNet-18
    with a 3x3 convolution and no pooling in its stem, for 32x32 and below."""
    weights: Path | None = None
    """The file of a trained evaluator: the coursework's checkpoint.pth or an evaluator.pt of this lab. The training
    settings below then have no effect."""
    width: int = 32
    """Channels of the first two convolutions in conv and objects; each later pair has twice as many."""
    epochs: int = 40
    """Number of passes over the evaluator's split."""
    batch_size: int = 64
    """Images per optimizer step."""
    learning_rate: float = 3e-3
    """AdamW's peak learning rate; one cycle warms up to it and decays from it."""
    weight_decay: float = 0.05
    """AdamW's decoupled weight decay."""
    dropout: float = 0.3
    """Dropout rate before the last layer of conv and objects."""
    rotation_degrees: float = 12.0
    """Largest rotation of a training image in degrees, in both directions."""
    scaling: float = 0.1
    """Largest enlargement or reduction of a training image, as a share of its size."""
    shift: float = 0.1
    """Largest shift of a training image, as a share of its side."""
    surroundings: Literal["darkest", "edge"] = "darkest"
    """Padding of shifted images. darkest: the darkest value, as around a digit. edge: the image's edge pixels."""
    mirror: bool = False
    """Mirror half of the training images left to right. Suits scenes and photographs, not digits."""

    lighting: float = 0.0
    """Largest change of a training image's brightness, contrast and saturation, as a share; the balance of its colours
    changes a third as much."""
    blur: float = 0.0
    """Largest blur of a training image: the standard deviation of a Gaussian, in pixels."""
    noise: float = 0.0
    """Largest noise added to a training image: its standard deviation, where pixels run from -1 to 1."""

    def __post_init__(self) -> None:
        require_types(self, "evaluator")
        require_range("evaluator.width", self.width, 1, 1024)
        require_range("evaluator.epochs", self.epochs, 1)
        require_range("evaluator.batch_size", self.batch_size, 2)
        require_range("evaluator.learning_rate", self.learning_rate, 0)
        require_range("evaluator.weight_decay", self.weight_decay, 0)
        require_range("evaluator.dropout", self.dropout, 0, 0.99)
        require_range("evaluator.rotation_degrees", self.rotation_degrees, 0, 180)
        require_range("evaluator.scaling", self.scaling, 0, 0.9)
        require_range("evaluator.shift", self.shift, 0, 1)
        require_range("evaluator.lighting", self.lighting, 0, 0.9)
        require_range("evaluator.blur", self.blur, 0, 3)
        require_range("evaluator.noise", self.noise, 0, 1)


@dataclass(frozen=True)
class GuideConfig:
    """The classifier of --guidance.method classifier, trained on the generator's images. It judges nothing.

    Its training is the evaluator's with another seed. Runs without that method do not train it.
    """

    kind: ClassifierKind | None = None
    """The architecture; by default that of --evaluator.kind."""


@dataclass(frozen=True)
class SecondEvaluatorConfig:
    """A second classifier, whose features measure image quality. It does not affect the ranking.

    Its training is the first classifier's with another seed.
    """

    share: float = 0.0
    """Share of the evaluator's split for the second classifier's training instead of the first's; 0 disables it."""
    kind: ClassifierKind = "objects"
    """The architecture; it must differ from --evaluator.kind."""

    def __post_init__(self) -> None:
        require_types(self, "second_evaluator")
        require_range("second_evaluator.share", self.share, 0, 0.9)
