"""Denoisers: networks that predict the noise in x_t.

`ContextUnet` is the network of the i-CLEVR coursework (after minDiffusion's conditional MNIST network): two downs to
a vector, time and condition embedded at two scales, two ups with skip connections,

    up = cemb * up + temb        (multiply by context, add time)
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lab.configuration import DenoiserConfig, ScheduleConfig
from lab.errors import LabError
from lab.types import Conditions, Images, Timesteps

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU}
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "group": lambda channels: nn.GroupNorm(8, channels),
    "batch": nn.BatchNorm2d,
}
TIME_FEATURES = 32


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each normalised and activated, with an optional skip around them, divided by sqrt(2).

    Where the channels change, the skip starts after the first convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, config: DenoiserConfig, skip: bool = False) -> None:
        super().__init__()
        self.skip = skip
        self.same_channels = in_channels == out_channels
        self.first = self._convolution(in_channels, out_channels, config)
        self.second = self._convolution(out_channels, out_channels, config)

    @staticmethod
    def _convolution(in_channels: int, out_channels: int, config: DenoiserConfig) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            NORMS[config.norm](out_channels),
            ACTIVATIONS[config.activation](),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H, W)."""
        first = self.first(features)
        second: Tensor = self.second(first)
        if not self.skip:
            return second
        return (second + (features if self.same_channels else first)) / math.sqrt(2)


class Up(nn.Module):
    """Concatenate the skip connection, double the side with a transposed convolution, then two residual blocks."""

    def __init__(self, in_channels: int, out_channels: int, config: DenoiserConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(in_channels, out_channels, 2, 2),
            ResidualBlock(out_channels, out_channels, config),
            ResidualBlock(out_channels, out_channels, config),
        )

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """Map two maps of side H, of in_channels together, to one of out_channels and side 2 H."""
        out: Tensor = self.layers(torch.cat((features, skip), dim=1))
        return out


def embedding(in_features: int, out_features: int, config: DenoiserConfig) -> nn.Sequential:
    """Two linear layers with an activation between them."""
    return nn.Sequential(
        nn.Linear(in_features, out_features),
        ACTIVATIONS[config.activation](),
        nn.Linear(out_features, out_features),
    )


class ContextUnet(nn.Module):
    """The coursework's U-Net as a noise predictor.

    Args:
        config: the choices; see `DenoiserConfig`.
        image_shape: (channels, height, width); height equals width and is divisible by 4.
        classes: K, the length of a condition.
        timesteps: T of the noise schedule; only the scalar time embedding (t + 1) / T uses it.

    Raises:
        LabError: the side is not square and divisible by 4, or `pool` does not fit the map at the bottleneck.
    """

    def __init__(self, config: DenoiserConfig, image_shape: tuple[int, int, int], classes: int, timesteps: int) -> None:
        super().__init__()
        channels, height, width = image_shape
        if height != width or height % 4 or height == 0:
            raise LabError(f"ContextUnet got {height}x{width} images; allowed is a square side divisible by 4")
        bottleneck = height // 4
        pool = config.pool or bottleneck
        if pool > bottleneck or bottleneck % (bottleneck // pool):
            raise LabError(
                f"--denoiser.pool is {pool}, but the map at the bottleneck of {height}x{width} images is "
                f"{bottleneck}x{bottleneck}; take 0, which pools all of it, or a side that divides it"
            )
        unpool = bottleneck // (bottleneck // pool)
        n_feat = config.n_feat
        time_features = TIME_FEATURES if config.time == "sinusoidal" else 1
        self.config = config
        self.timesteps = timesteps

        self.initial = ResidualBlock(channels, n_feat, config, skip=True)
        self.down1 = nn.Sequential(ResidualBlock(n_feat, n_feat, config), nn.MaxPool2d(2))
        self.down2 = nn.Sequential(ResidualBlock(n_feat, 2 * n_feat, config), nn.MaxPool2d(2))
        self.to_vector = nn.Sequential(nn.AvgPool2d(pool), ACTIVATIONS[config.activation]())

        self.time_embedding1 = embedding(time_features, 2 * n_feat, config)
        self.time_embedding2 = embedding(time_features, n_feat, config)
        self.context_embedding1 = embedding(classes, 2 * n_feat, config)
        self.context_embedding2 = embedding(classes, n_feat, config)
        if config.null_condition == "learned":
            # Ones: an unconditional pass starts by leaving the features it multiplies as they are.
            self.null_embedding1 = nn.Parameter(torch.ones(2 * n_feat))
            self.null_embedding2 = nn.Parameter(torch.ones(n_feat))

        self.up0 = nn.Sequential(
            nn.ConvTranspose2d(2 * n_feat, 2 * n_feat, unpool, unpool), nn.GroupNorm(8, 2 * n_feat), nn.ReLU()
        )
        self.up1 = Up(4 * n_feat, n_feat, config)
        self.up2 = Up(2 * n_feat, n_feat, config)
        self.out = nn.Sequential(
            nn.Conv2d(2 * n_feat, n_feat, 3, padding=1),
            nn.GroupNorm(8, n_feat),
            nn.ReLU(),
            nn.Conv2d(n_feat, channels, 3, padding=1),
        )

    def forward(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Predict the noise in x_t; shapes (B, C, H, W), (B,), (B, K) to (B, C, H, W)."""
        features = self.initial(x_t)
        down1 = self.down1(features)
        down2 = self.down2(down1)
        vector = self.to_vector(down2)

        time = self._time_features(timesteps).to(x_t.dtype)
        context1, context2 = self._context_embeddings(conditions.to(x_t.dtype))
        up = self.up0(vector)
        up = self.up1(_spread(context1) * up + _spread(self.time_embedding1(time)), down2)
        up = self.up2(_spread(context2) * up + _spread(self.time_embedding2(time)), down1)
        noise: Tensor = self.out(torch.cat((up, features), dim=1))
        return noise

    def _time_features(self, timesteps: Timesteps) -> Tensor:
        if self.config.time == "scalar":
            return ((timesteps + 1) / self.timesteps).view(-1, 1)
        half = TIME_FEATURES // 2
        frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=timesteps.device) / half)
        # t is put on the scale of 1000 timesteps, so that the features mean the same noise level whatever T is.
        angles = (1000 * timesteps / self.timesteps).view(-1, 1) * frequencies
        return torch.cat((angles.sin(), angles.cos()), dim=1)

    def _context_embeddings(self, conditions: Conditions) -> tuple[Tensor, Tensor]:
        context1: Tensor = self.context_embedding1(conditions)
        context2: Tensor = self.context_embedding2(conditions)
        if self.config.null_condition == "zeros":
            return context1, context2
        is_null = (conditions == 0).all(dim=1, keepdim=True)
        return torch.where(is_null, self.null_embedding1, context1), torch.where(
            is_null, self.null_embedding2, context2
        )


def _spread(embedded: Tensor) -> Tensor:
    """View (B, C) as (B, C, 1, 1), to be broadcast over an image."""
    return embedded[:, :, None, None]


def build_denoiser(
    config: DenoiserConfig, image_shape: tuple[int, int, int], classes: int, schedule: ScheduleConfig, seed: int
) -> ContextUnet:
    """Return a freshly initialised denoiser on the CPU; the seed decides its weights and the global RNG is left alone.

    Its memory format is channels_last, which convolutions are faster in on a CPU as on a GPU.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = ContextUnet(config, image_shape, classes, schedule.timesteps)
    network.to(memory_format=torch.channels_last)
    return network
