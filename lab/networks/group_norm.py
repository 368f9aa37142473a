"""GroupNorm of 8 groups, in the memory format in which a CPU computes it sooner.

Networks are in channels_last, in which torch's GroupNorm takes twice as long on a CPU where a group has few channels.
LOG.md, 2026-12-01, has the measurements, of float32 on a CPU with AVX2.
"""

import torch
from torch import Tensor, nn

GROUPS = 8
FEW_CHANNELS = 4 * GROUPS


class GroupNorm(nn.GroupNorm):
    """torch's GroupNorm of 8 groups; its parameters, their names and its output are the same up to rounding.

    Args:
        channels: channels of the feature map, a multiple of 8.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(GROUPS, channels)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, channels, ...) to the same shape and memory format."""
        few = features.is_cpu and features.dim() == 4 and self.num_channels <= FEW_CHANNELS
        if few and not features.is_contiguous():
            return super().forward(features.contiguous()).contiguous(memory_format=torch.channels_last)
        return super().forward(features)
