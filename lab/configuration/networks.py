"""Settings of the denoiser, a class a kind of network."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from lab.configuration.checks import require_range, require_types
from lab.errors import LabError

Prediction = Literal["noise", "x_0", "v"]

LARGEST_PATCH = 16
"""The largest `--denoiser.patch`."""

ANY_SIZE = range(sys.maxsize)
"""Sizes of label sets, the empty one among them, which is the null condition."""


@runtime_checkable
class DenoiserConfig(Protocol):
    """Settings of a denoiser, of any kind.

    One whose network takes conditions of 0 and 1 alone also has a property `binary_conditions`, which is True. A
    student's also has `guidance_weights`, the lowest and the highest w that it takes, and one of few steps has
    `sampling_steps`, their number.
    """

    @property
    def kind(self) -> str:
        """Its name."""
        ...

    @property
    def prediction(self) -> str:
        """What the output is: noise, x_0 or v; see `lab/diffusion/objectives.py`."""
        ...

    @property
    def conditional(self) -> bool:
        """Whether the network is given the condition."""
        ...

    @property
    def label_set_sizes(self) -> range:
        """The sizes of label sets that the network can be given; 0 is the null condition."""
        ...

    @property
    def width(self) -> int:
        """Channels of its feature maps at full side, which decide what "auto" precision is."""
        ...


def _require_widths(n_feat: int, widths: tuple[int, ...], divisor: int) -> None:
    require_range("denoiser.n_feat", n_feat, divisor, 1024)
    for width in widths:
        require_range("denoiser.widths", width, 1, 64)
    if n_feat % divisor:
        raise LabError(
            f"--denoiser.n-feat is {n_feat}; it must be a multiple of {divisor} (GroupNorm has {divisor} groups)"
        )


@dataclass(frozen=True)
class ContextUnetConfig:
    """ContextUnet. With batch norm, zero null condition, scalar time and pool 7 it is the coursework's.

    Each field from `patch` to `attention` strengthens it by itself; LOG.md has the measurements.
    """

    kind: Literal["context_unet"] = "context_unet"
    """context_unet, basic_unet or unet2d; each has its own settings."""
    n_feat: int = 64
    """Channels that `widths` are multiples of."""
    activation: Literal["gelu", "relu"] = "gelu"
    """Activation in the residual blocks, the embeddings and the bottleneck vector."""
    norm: Literal["group", "batch"] = "group"
    """Normalisation in the residual blocks: GroupNorm of 8 groups, or the coursework's BatchNorm."""
    null_condition: Literal["learned", "zeros"] = "learned"
    """What the null condition looks like to the network: embeddings of its own, or the embedding of a row of zeros."""
    time: Literal["sinusoidal", "scalar", "none"] = "sinusoidal"
    """How time enters: sines and cosines of t, the coursework's single number (t + 1) / T, or not at all."""
    pool: int = 0
    """Side of the average pooling at the bottleneck, in pixels; 0 pools the whole map. The coursework's is 7."""
    patch: int = 1
    """Blocks of patch x patch pixels become channels before the first convolution, and pixels again after the last."""
    widths: tuple[int, int, int] = (1, 1, 2)
    """Channels at full, half and quarter side, in multiples of n_feat."""
    conditioning: Literal["ups", "blocks"] = "ups"
    """Where time and condition enter: before each up, multiplied and added (the coursework's), or in every block, which
    they scale and shift."""
    bottleneck: Literal["vector", "map"] = "vector"
    """What the quarter-sized map passes through: pooling to a vector (the coursework's), or one more block."""
    attention: Literal["none", "map", "objects"] = "none"
    """Attention after each down and before each up: none (the coursework's), over the map, or over the map and the
    objects of the label set."""
    class_embedding: Literal["own", "words"] = "own"
    """How a class is embedded: by an embedding of its own, or as the sum of one for each word of its name, so that "red
    cube" shares with "red sphere" and "blue cube"."""
    prediction: Prediction = "noise"
    """What the output is: the noise (the coursework's), the clean image, or v, between the two."""

    def __post_init__(self) -> None:
        require_types(self, "denoiser")
        _require_widths(self.n_feat, self.widths, 8)
        require_range("denoiser.pool", self.pool, 0)
        if self.pool and self.bottleneck != "vector":
            raise LabError(f"--denoiser.pool is {self.pool}, which only --denoiser.bottleneck vector uses; remove it")
        require_range("denoiser.patch", self.patch, 1, LARGEST_PATCH)

    @property
    def conditional(self) -> bool:
        """Whether the network is given the condition: yes."""
        return True

    @property
    def width(self) -> int:
        """Channels of the feature maps at full side."""
        return self.n_feat * self.widths[0]

    @property
    def label_set_sizes(self) -> range:
        """The sizes of label sets that the network can be given: all."""
        return ANY_SIZE

    @property
    def binary_conditions(self) -> bool:
        """Whether conditions must be of 0 and 1: attention over objects has a token for each class above 0."""
        return self.attention == "objects"


@dataclass(frozen=True)
class DistilledUnetConfig(ContextUnetConfig):
    """A ContextUnet that takes w as an input, a student of one that does not.

    Args:
        guidance_weights: the lowest and the highest w that it learns.
        sampling_steps: the number of DDIM steps that it learns to sample in; 0 for any.
    """

    kind: Literal["distilled_unet"] = "distilled_unet"  # type: ignore[assignment]  # each class has its own kind
    guidance_weights: tuple[float, float] = (0.0, 4.0)
    sampling_steps: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_student_range(self.guidance_weights)
        require_range("distillation.sampling_steps", self.sampling_steps, 0)


def require_student_range(guidance_weights: tuple[float, float]) -> None:
    """Raise LabError unless these can be the lowest and the highest w of a student."""
    low, high = guidance_weights
    for weight in guidance_weights:
        require_range("distillation.guidance_weights", weight, -1, 100)
    if not low <= 0 <= high or low == high:
        raise LabError(
            f"--distillation.guidance-weights is {low:g} {high:g}; give the lowest and the highest, with 0 between or "
            f"at one of them"
        )


def student_weights(denoiser: DenoiserConfig) -> tuple[float, float] | None:
    """Return the lowest and the highest w of a network that takes w as an input, or None for any other."""
    weights: tuple[float, float] | None = getattr(denoiser, "guidance_weights", None)
    return weights


def student_steps(denoiser: DenoiserConfig) -> int:
    """Return the number of DDIM steps that a student learned to sample in, or 0 for any number and any network."""
    return int(getattr(denoiser, "sampling_steps", 0))


@dataclass(frozen=True)
class BasicUNetConfig:
    """The tutorials' first network, which is given neither the timestep nor the condition."""

    kind: Literal["basic_unet"] = "basic_unet"
    """context_unet, basic_unet or unet2d; each has its own settings."""
    n_feat: int = 64
    """Channels that `widths` are multiples of."""
    widths: tuple[int, int, int] = (1, 1, 2)
    """Channels at full, half and quarter side, in multiples of n_feat."""
    prediction: Prediction = "noise"
    """What the output is: the noise, the clean image, or v, between the two."""

    def __post_init__(self) -> None:
        require_types(self, "denoiser")
        _require_widths(self.n_feat, self.widths, 1)

    @property
    def conditional(self) -> bool:
        """Whether the network is given the condition: no."""
        return False

    @property
    def width(self) -> int:
        """Channels of the feature maps at full side."""
        return self.n_feat * self.widths[0]

    @property
    def label_set_sizes(self) -> range:
        """The sizes of label sets that the network can be given: all, and it ignores them."""
        return ANY_SIZE


@dataclass(frozen=True)
class UNet2DConfig:
    """diffusers' UNet2DModel (extra [diffusers]), with or without the condition."""

    kind: Literal["unet2d"] = "unet2d"
    """context_unet, basic_unet or unet2d; each has its own settings."""
    conditional: bool = True
    """Whether the network is given the condition."""
    timed: bool = True
    """Whether the network is given the timestep; if not, it is given 0."""
    n_feat: int = 64
    """Channels that `widths` are multiples of."""
    widths: tuple[int, ...] = (1, 1, 2)
    """Channels of each level in multiples of n_feat; every level has half the side of the one before."""
    attended_levels: int = 0
    """How many of the levels have attention, counted from the lowest."""
    zero_to_one: bool = False
    """Whether the network's pixels run from 0 to 1, as in the tutorials' corruption baseline, instead of -1 to 1."""
    prediction: Prediction = "noise"
    """What the output is: the noise, the clean image, or v, between the two."""

    def __post_init__(self) -> None:
        require_types(self, "denoiser")
        if not 1 <= len(self.widths) <= 8:
            raise LabError(f"--denoiser.widths has {len(self.widths)} levels; it must have from 1 to 8")
        require_range("denoiser.attended_levels", self.attended_levels, 0, len(self.widths))
        _require_widths(self.n_feat, self.widths, 32)
        if self.zero_to_one and self.prediction != "x_0":
            raise LabError(
                "--denoiser.zero-to-one is for networks that predict the image; add --denoiser.prediction x_0"
            )

    @property
    def width(self) -> int:
        """Channels of the feature maps at full side."""
        return self.n_feat * self.widths[0]

    @property
    def label_set_sizes(self) -> range:
        """The sizes of label sets that the network can be given: all."""
        return ANY_SIZE


@dataclass(frozen=True, kw_only=True)
class ImportedUNet2DConfig:
    """A UNet2DModel that `import-pipeline` read from a folder of diffusers.

    Args:
        unet2d: diffusers' own configuration of it, in primitives.
        null_condition: whether it has an embedding of the null condition, after those of the classes.
        prediction: what the output is.
    """

    kind: Literal["imported_unet2d"] = "imported_unet2d"
    unet2d: Mapping[str, Any] = field(default_factory=dict)
    null_condition: bool = False
    prediction: Prediction = "noise"

    def __post_init__(self) -> None:
        require_types(self, "denoiser")
        try:
            same = isinstance(self.unet2d, dict) and json.loads(json.dumps(self.unet2d)) == self.unet2d
        except (TypeError, ValueError, RecursionError):
            same = False
        if not same:
            raise LabError("denoiser.unet2d is no mapping of primitives; import the pipeline again")

    @property
    def conditional(self) -> bool:
        """Whether the network is given the condition: if it embeds classes."""
        return self.unet2d.get("class_embed_type") is not None or self.unet2d.get("num_class_embeds") is not None

    @property
    def width(self) -> int:
        """Channels of the feature maps at full side."""
        return int(self.unet2d["block_out_channels"][0])

    @property
    def label_set_sizes(self) -> range:
        """The sizes of label sets that the network can be given: one class and, if it has it, the null condition."""
        return range(0 if self.null_condition else 1, 2) if self.conditional else ANY_SIZE

    @property
    def binary_conditions(self) -> bool:
        """Whether conditions must be of 0 and 1: classes are given by number."""
        return self.conditional


DenoiserChoice = ContextUnetConfig | BasicUNetConfig | UNet2DConfig
"""The kinds that the command line offers."""
