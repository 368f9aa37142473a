"""What can be chosen about the evaluator; importing this does not import torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lab.configuration.checks import require_range, require_types

ClassifierKind = Literal["conv", "objects", "resnet18", "resnet18_stride1"]


@dataclass(frozen=True)
class EvaluatorConfig:
    """The classifier that judges the images, and how it is trained on its own split."""

    kind: ClassifierKind = "conv"
    """conv: a small one, for small images. objects: one for small objects anywhere in the image. resnet18:
    torchvision's, as the i-CLEVR coursework has it at 64x64. resnet18_stride1: the same with a gentle stem (3x3
    convolution, no pooling), for 32x32 and below."""
    weights: Path | None = None
    """An evaluator that is trained already: the coursework's checkpoint.pth, or an evaluator.pt of this lab. The
    settings of its training below are not used then."""
    width: int = 32
    """Channels of the first two convolutions of conv and objects; each later pair has twice as many."""
    epochs: int = 40
    """Passes over the evaluator's split."""
    batch_size: int = 64
    """Images in one optimizer step."""
    learning_rate: float = 3e-3
    """AdamW's learning rate at its highest, in one cycle of warm-up and decay."""
    weight_decay: float = 0.05
    """AdamW's decoupled weight decay."""
    dropout: float = 0.3
    """Dropout before the last layer of conv and objects."""
    rotation_degrees: float = 12.0
    """Training images are turned by up to this many degrees either way,"""
    scaling: float = 0.1
    """enlarged or reduced by up to this share,"""
    shift: float = 0.1
    """and moved by up to this share of their side."""
    surroundings: Literal["darkest", "edge"] = "darkest"
    """What comes into a moved image from outside: the darkest value, as around a digit, or its own edge continued."""
    mirror: bool = False
    """Mirror half of the training images left to right: right for scenes and photographs, wrong for digits."""

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


@dataclass(frozen=True)
class SecondEvaluatorConfig:
    """A second classifier, which has no say in the ranking, and in whose features quality is measured.

    It is trained as the first one is, from another seed.
    """

    share: float = 0.0
    """Share of the evaluator's split that it is trained on, and the first one is not; 0 for no measures of quality."""
    kind: ClassifierKind = "objects"
    """Its architecture, another than --evaluator.kind."""

    def __post_init__(self) -> None:
        require_types(self, "second_evaluator")
        require_range("second_evaluator.share", self.share, 0, 0.9)
