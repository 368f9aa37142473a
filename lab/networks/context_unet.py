"""ContextUnet, the network of the i-CLEVR coursework (after minDiffusion's conditional MNIST network).

It has two downsampling blocks, a bottleneck vector, and two upsampling blocks with skip connections. Time and condition
are embedded at the two scales of the upsampling blocks:

    up = cemb * up + temb        (multiply by context, add time)

Independent options strengthen this design; see `ContextUnetConfig`.
"""

import math

import torch
from torch import Tensor, nn

from lab.configuration.networks import LARGEST_PATCH, ContextUnetConfig
from lab.errors import LabError, listed
from lab.networks.blocks import Attention, ModulatedBlock, ResidualBlock, Up, VectorBottleneck, embedding
from lab.networks.class_words import ClassWords
from lab.networks.group_norm import GroupNorm
from lab.types import ClassNames, Conditions, Images, Timesteps

TIME_FEATURES = 32
Embedded = list[tuple[Tensor, Tensor]]
"""The embedded condition and the embedded time at every scale, (B, E) each."""


class ConditionEmbedding(nn.Module):
    """Embeds time and condition at one scale, optionally with a learned embedding of the null condition.

    Args:
        time_features: length of the time features.
        words: the words of the classes.
        out_features: E, the length of the embeddings.
        config: `activation` and `null_condition`.
    """

    def __init__(self, time_features: int, words: ClassWords, out_features: int, config: ContextUnetConfig) -> None:
        super().__init__()
        self.time = embedding(time_features, out_features, config)
        self.words = words
        self.context = embedding(words.count, out_features, config)
        # Ones: the null condition multiplies the features, and initially leaves them unchanged.
        self.null = nn.Parameter(torch.ones(out_features)) if config.null_condition == "learned" else None

    def forward(self, time: Tensor, conditions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embedded condition and the embedded time, (B, E) each."""
        context: Tensor = self.context(self.words(conditions))
        if self.null is not None:
            context = torch.where((conditions == 0).all(dim=1, keepdim=True), self.null, context)
        return context, self.time(time)


class ContextUnet(nn.Module):
    """The coursework's U-Net as a noise predictor, with options.

    Args:
        config: the options; see `ContextUnetConfig`.
        image_shape: (channels, height, width); height equals width and is divisible by 4 `patch`.
        classes: the names of the K classes of a condition.
        timesteps: T of the noise schedule; it scales the time embedding.

    Raises:
        LabError: the image is not square, its side is not divisible by 4 `patch`, or `pool` does not fit the map at
            the bottleneck.
    """

    def __init__(
        self, config: ContextUnetConfig, image_shape: tuple[int, int, int], classes: ClassNames, timesteps: int
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        if height != width or height % 4 or height == 0:
            raise LabError(f"ContextUnet got {height}x{width} images; use a square side divisible by 4")
        if height % (4 * config.patch):
            fitting = [patch for patch in range(1, LARGEST_PATCH + 1) if height % (4 * patch) == 0]
            raise LabError(
                f"--denoiser.patch is {config.patch}, and the side of {height}x{width} images is not divisible by 4 "
                f"times that; choose from {listed(fitting)}"
            )
        channels *= config.patch**2
        full, half, quarter = (config.n_feat * times for times in config.widths)
        time_features = TIME_FEATURES if config.time == "sinusoidal" else 1
        embedded = (quarter, half) if config.conditioning == "ups" else (4 * config.n_feat,)
        self.config = config
        self.timesteps = timesteps

        words = ClassWords(classes, config)
        self.embeddings = nn.ModuleList(
            [ConditionEmbedding(time_features, words, features, config) for features in embedded]
        )
        self.initial = self._block(channels, full, skip=True)
        self.down1, self.down2 = self._block(full, half), self._block(half, quarter)
        self.halve = nn.MaxPool2d(2)
        self.bottleneck = (
            VectorBottleneck(quarter, height // (4 * config.patch), config)
            if config.bottleneck == "vector"
            else self._block(quarter, quarter, skip=True)
        )
        self.up1, self.up2 = Up(2 * quarter, half, self._block), Up(2 * half, full, self._block)
        if config.attention != "none":
            tokens = words if config.attention == "objects" else None
            places = ((half, 2), (quarter, 4), (quarter, 4), (half, 2))
            self.attentions = nn.ModuleList(
                [Attention(channels_there, height // (config.patch * down), tokens) for channels_there, down in places]
            )
        self.out = nn.Sequential(
            nn.Conv2d(2 * full, full, 3, padding=1),
            GroupNorm(full),
            nn.ReLU(),
            nn.Conv2d(full, channels, 3, padding=1),
        )

    def _block(self, in_channels: int, out_channels: int, skip: bool = False) -> nn.Module:
        if self.config.conditioning == "blocks":
            return ModulatedBlock(in_channels, out_channels, 4 * self.config.n_feat, self.config)
        return ResidualBlock(in_channels, out_channels, self.config, skip)

    def forward(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Predict the noise in x_t; shapes (B, C, H, W), (B,), (B, K) to (B, C, H, W)."""
        conditions = conditions.to(x_t.dtype)
        return self.predicted(x_t, self.embedded(x_t, timesteps, conditions), conditions)

    def embedded(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Embedded:
        """Return the embedded condition and the embedded time at every scale, (B, E) each."""
        time = self._time_features(timesteps.to(x_t.device, non_blocking=True)).to(x_t.dtype)
        return [embed(time, conditions) for embed in self.embeddings]

    def predicted(self, x_t: Images, embedded: Embedded, conditions: Conditions) -> Images:
        """Predict the noise in x_t from the embeddings, which are those of these conditions; shapes as of `forward`."""
        # The embeddings enter every block, or (below) only the start of each upsampling block.
        in_blocks = nn.functional.silu(torch.add(*embedded[0])) if self.config.conditioning == "blocks" else None

        features = self.initial(nn.functional.pixel_unshuffle(x_t, self.config.patch), in_blocks)
        down1 = self._attended(0, self.halve(self.down1(features, in_blocks)), conditions)
        down2 = self._attended(1, self.halve(self.down2(down1, in_blocks)), conditions)
        up = self.bottleneck(down2, in_blocks)
        for place, (ascend, skip) in enumerate(((self.up1, down2), (self.up2, down1))):
            up = self._attended(2 + place, up, conditions)
            if self.config.conditioning == "ups":
                context_embedded, time_embedded = embedded[place]
                up = _spread(context_embedded) * up + _spread(time_embedded)
            up = ascend(up, skip, in_blocks)
        noise: Tensor = self.out(torch.cat((up, features), dim=1))
        return nn.functional.pixel_shuffle(noise, self.config.patch)

    def _attended(self, place: int, features: Tensor, conditions: Tensor) -> Tensor:
        if self.config.attention == "none":
            return features
        attended: Tensor = self.attentions[place](features, conditions)
        return attended

    def _time_features(self, timesteps: Timesteps) -> Tensor:
        if self.config.time == "none":
            return torch.zeros(len(timesteps), 1, device=timesteps.device)
        if self.config.time == "scalar":
            return ((timesteps + 1) / self.timesteps).view(-1, 1)
        half = TIME_FEATURES // 2
        frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=timesteps.device) / half)
        # Scale t to 1000 timesteps, so that the same relative time has the same features for every T.
        angles = (1000 * timesteps / self.timesteps).view(-1, 1) * frequencies
        return torch.cat((angles.sin(), angles.cos()), dim=1)


def _spread(embedded: Tensor) -> Tensor:
    """View (B, C) as (B, C, 1, 1), to broadcast it over an image."""
    return embedded[:, :, None, None]
