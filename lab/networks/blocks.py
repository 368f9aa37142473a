"""The building blocks of `ContextUnet`.

Every convolutional block takes a feature map and the embedded condition. The coursework's `ResidualBlock` ignores the
condition; in `ModulatedBlock`, the condition scales and shifts the normalised features.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lab.configuration.networks import ContextUnetConfig
from lab.errors import LabError
from lab.networks.class_words import ClassWords
from lab.networks.group_norm import GroupNorm

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU}
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "group": GroupNorm,
    "batch": nn.BatchNorm2d,
}
CHANNELS_PER_HEAD = 32


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each with normalisation and activation, and an optional skip around them.

        out = (second + features) / sqrt(2)

    If the number of channels changes, the skip starts after the first convolution. Without a skip, out = second.
    """

    def __init__(self, in_channels: int, out_channels: int, config: ContextUnetConfig, skip: bool = False) -> None:
        super().__init__()
        self.skip = skip
        self.same_channels = in_channels == out_channels
        self.first = self._convolution(in_channels, out_channels, config)
        self.second = self._convolution(out_channels, out_channels, config)

    @staticmethod
    def _convolution(in_channels: int, out_channels: int, config: ContextUnetConfig) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            NORMS[config.norm](out_channels),
            ACTIVATIONS[config.activation](),
        )

    def forward(self, features: Tensor, embedded: Tensor | None) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H, W); `embedded` is not used."""
        first = self.first(features)
        second: Tensor = self.second(first)
        if not self.skip:
            return second
        return (second + (features if self.same_channels else first)) / math.sqrt(2)


class ModulatedBlock(nn.Module):
    """A residual block whose second normalisation is scaled and shifted by the embedded condition.

        out = skip(h) + conv(act((1 + scale) * norm(conv(act(norm(h)))) + shift)),   scale, shift = linear(embedded)

    Source: Dhariwal & Nichol 2021 (arXiv:2105.05233), "adaptive group normalisation", after FiLM (arXiv:1709.07871).
    The last convolution is initialised to zero, so the block starts as the skip alone.
    """

    def __init__(self, in_channels: int, out_channels: int, embedded: int, config: ContextUnetConfig) -> None:
        super().__init__()
        activation = ACTIVATIONS[config.activation]
        self.first = nn.Sequential(
            # The image has too few channels for group normalisation and does not need it.
            *([NORMS[config.norm](in_channels), activation()] if in_channels % 8 == 0 else []),
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            NORMS[config.norm](out_channels),
        )
        self.modulation = nn.Linear(embedded, 2 * out_channels)
        self.second = nn.Sequential(activation(), nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.around = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)
        for parameter in self.second.parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor, embedded: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) and (B, E) to (B, out_channels, H, W)."""
        scale, shift = self.modulation(embedded)[:, :, None, None].chunk(2, dim=1)
        out: Tensor = self.around(features) + self.second(torch.addcmul(shift, self.first(features), 1 + scale))
        return out


class Up(nn.Module):
    """Concatenates the skip connection, doubles the side with a transposed convolution, and applies two blocks."""

    def __init__(self, in_channels: int, out_channels: int, block: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.doubling = nn.ConvTranspose2d(in_channels, out_channels, 2, 2)
        self.blocks = nn.ModuleList([block(out_channels, out_channels), block(out_channels, out_channels)])

    def forward(self, features: Tensor, skip: Tensor, embedded: Tensor | None) -> Tensor:
        """Map two feature maps of side H, with in_channels in total, to one of out_channels and side 2 H."""
        out: Tensor = self.doubling(torch.cat((features, skip), dim=1))
        for block in self.blocks:
            out = block(out, embedded)
        return out


class Attention(nn.Module):
    """Self-attention over a feature map, optionally with one token for each class of the condition.

        out = h + linear(softmax(q k^T / sqrt(d)) v),   q from the map, k and v from the map and the class tokens

    Source: Vaswani 2017 (arXiv:1706.03762), on a U-Net's map as in Ho 2020 (arXiv:2006.11239). The last layer is
    initialised to zero, so the block starts as the identity.

    Args:
        channels: channels of the map.
        side: side of the map; every position has its own learned embedding.
        classes: the words of the classes, to add a token for each class of the condition; None for attention over
            the map alone.
    """

    def __init__(self, channels: int, side: int, classes: ClassWords | None) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(side * side, channels))
        self.heads = channels // math.gcd(channels, CHANNELS_PER_HEAD)
        self.norm = GroupNorm(channels)
        self.places = nn.Linear(channels, 3 * channels)
        self.classes = classes
        self.objects = None if classes is None else nn.Parameter(torch.randn(classes.count, 2 * channels))
        self.out = nn.Linear(channels, channels)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor, conditions: Tensor) -> Tensor:
        """Map (B, channels, H, W) and the conditions (B, K) to (B, channels, H, W)."""
        batch, _, height, width = features.shape
        query, key, value = self.places(self.norm(features).flatten(2).mT + self.positions).chunk(3, dim=2)
        mask = None
        if self.classes is not None and self.objects is not None:
            object_key, object_value = self.classes.embedded(self.objects).expand(batch, -1, -1).chunk(2, dim=2)
            key, value = torch.cat((key, object_key), dim=1), torch.cat((value, object_value), dim=1)
            # Every position attends to all positions and to the classes of its condition.
            seen = torch.cat((conditions.new_ones(batch, height * width), conditions), dim=1) > 0
            mask = seen[:, None, None, :]
        attended = nn.functional.scaled_dot_product_attention(
            self._by_head(query), self._by_head(key), self._by_head(value), mask
        )
        out: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return features + out.mT.reshape(features.shape)

    def _by_head(self, tokens: Tensor) -> Tensor:
        """View (B, tokens, channels) as (B, heads, tokens, channels of a head)."""
        return tokens.view(*tokens.shape[:2], self.heads, -1).transpose(1, 2)


class VectorBottleneck(nn.Module):
    """The coursework's bottleneck: averages the map over windows and restores its size by a transposed convolution.

    Args:
        channels: channels of the map.
        side: side of the map, in pixels.
        config: `pool` is the side of the window; 0 means the whole map.

    Raises:
        LabError: the transposed convolution cannot restore the size of the map.
    """

    def __init__(self, channels: int, side: int, config: ContextUnetConfig) -> None:
        super().__init__()
        pool = config.pool or side
        if pool > side or side % (side // pool):
            raise LabError(
                f"--denoiser.pool is {pool}, but the map at the bottleneck is {side}x{side}; "
                f"use 0 to pool the whole map, or a side that divides {side}"
            )
        unpool = side // (side // pool)
        self.to_vector = nn.Sequential(nn.AvgPool2d(pool), ACTIVATIONS[config.activation]())
        self.to_map = nn.Sequential(
            nn.ConvTranspose2d(channels, channels, unpool, unpool), GroupNorm(channels), nn.ReLU()
        )

    def forward(self, features: Tensor, embedded: Tensor | None) -> Tensor:
        """Map (B, channels, H, W) to the same shape; `embedded` is not used."""
        out: Tensor = self.to_map(self.to_vector(features))
        return out


def embedding(in_features: int, out_features: int, config: ContextUnetConfig) -> nn.Sequential:
    """Return two linear layers with an activation between them."""
    return nn.Sequential(
        nn.Linear(in_features, out_features),
        ACTIVATIONS[config.activation](),
        nn.Linear(out_features, out_features),
    )
