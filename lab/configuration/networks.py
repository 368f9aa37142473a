"""Settings of the denoiser."""

import json
from dataclasses import dataclass
from typing import Literal

from lab.configuration.checks import require_range, require_types
from lab.errors import LabError

_OF_ALL = ("network", "n_feat", "widths", "prediction")


_OF_CONTEXT_UNET = (
    "activation", "norm", "null_condition", "time", "pool", "patch", "conditioning", "bottleneck", "attention"
)  # fmt: skip
DENOISER_FIELDS = {
    "context_unet": (*_OF_ALL, *_OF_CONTEXT_UNET),
    "basic_unet": _OF_ALL,
    "unet2d": (*_OF_ALL, "time", "attended_levels", "unet2d"),
    "conditional_unet2d": (*_OF_ALL, "time", "attended_levels", "unet2d"),
}
"""The fields of `DenoiserConfig` that each network uses."""


UNCONDITIONAL = ("basic_unet", "unet2d")
"""The networks that ignore the condition."""


@dataclass(frozen=True)
class DenoiserConfig:
    """The network. ContextUnet with batch norm, zero null condition, scalar time and pool 7 is the coursework's.

    Each field from `patch` to `attention` strengthens ContextUnet by itself; LOG.md says what was measured of them.
    """

    network: Literal["context_unet", "basic_unet", "unet2d", "conditional_unet2d"] = "context_unet"
    """ContextUnet; or the tutorials' networks: BasicUNet, which is told neither time nor condition, and diffusers'
    UNet2DModel without and with the condition (extra [diffusers])."""
    n_feat: int = 64
    """Channels that `widths` are multiples of."""
    activation: Literal["gelu", "relu"] = "gelu"
    """Activation in the residual blocks, the embeddings and the bottleneck vector."""
    norm: Literal["group", "batch"] = "group"
    """Normalisation in the residual blocks: GroupNorm of 8 groups, or the coursework's BatchNorm."""
    null_condition: Literal["learned", "zeros"] = "learned"
    """What "no label asked" looks like to the network: embeddings of its own, or the embedding of a row of zeros."""
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
    objects asked for."""
    prediction: Literal["noise", "x_0", "v"] = "noise"
    """What the output is taken for: the noise (the coursework's), the clean image, or v, between the two."""
    attended_levels: int = 0
    """How many of UNet2DModel's levels have attention, counted from the lowest."""
    unet2d: str = ""
    """All of UNet2DModel's own configuration as JSON, where it came with an imported pipeline."""

    @property
    def width(self) -> int:
        """Channels of the feature maps at full side."""
        if self.unet2d:
            return int(json.loads(self.unet2d)["block_out_channels"][0])
        return self.n_feat * self.widths[0]

    def __post_init__(self) -> None:
        require_types(self, "denoiser")
        for name, value in vars(self).items():
            default = type(self).__dataclass_fields__[name].default
            if name not in DENOISER_FIELDS[self.network] and value != default:
                raise LabError(
                    f"--denoiser.{name.replace('_', '-')} is {value}, which {self.network} does not use; leave it out"
                )
        require_range("denoiser.attended_levels", self.attended_levels, 0, 3)
        require_range("denoiser.n_feat", self.n_feat, 8, 1024)
        if self.n_feat % 8:
            raise LabError(f"--denoiser.n-feat is {self.n_feat}; allowed is a multiple of 8 (GroupNorm has 8 groups)")
        require_range("denoiser.pool", self.pool, 0)
        if self.pool and self.bottleneck != "vector":
            raise LabError(
                f"--denoiser.pool is {self.pool}, which only --denoiser.bottleneck vector uses; leave it out"
            )
        require_range("denoiser.patch", self.patch, 1, 16)
        for width in self.widths:
            require_range("denoiser.widths", width, 1, 64)
