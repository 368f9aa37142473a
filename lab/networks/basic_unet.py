"""BasicUNet, the first network of the tutorials: 5x5 convolutions, max-pooling and additive skips.

It ignores the timestep and the condition, and works on images in [0, 1]. With channels 32, 64, 64 and one image
channel, it has 309,057 parameters. Source: unit 1 of Hugging Face's diffusion models course.
"""

from torch import Tensor, nn

from lab.configuration.networks import BasicUNetConfig
from lab.errors import LabError
from lab.types import Conditions, Images, Timesteps


class BasicUNet(nn.Module):
    """Three downsampling and three upsampling convolutions, each followed by SiLU.

    Args:
        config: `n_feat` times `widths` are the channels at full, half and quarter resolution.
        image_shape: (channels, height, width); height and width are divisible by 4.

    Raises:
        LabError: height or width is not divisible by 4.
    """

    def __init__(self, config: BasicUNetConfig, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = image_shape
        if height % 4 or width % 4:
            raise LabError(f"BasicUNet got {height}x{width} images; use sides divisible by 4")
        full, half, quarter = (config.n_feat * times for times in config.widths)
        self.downs = nn.ModuleList(_convolution(*pair) for pair in ((channels, full), (full, half), (half, quarter)))
        self.ups = nn.ModuleList(_convolution(*pair) for pair in ((quarter, half), (half, full), (full, channels)))
        self.halve, self.enlarge = nn.MaxPool2d(2), nn.Upsample(scale_factor=2)

    def forward(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Return the prediction for x_t, (B, C, H, W) in [-1, 1], shaped like x_t."""
        features, skips = (x_t + 1) / 2, []
        for place, down in enumerate(self.downs):
            features = nn.functional.silu(down(features))
            if place < 2:
                skips.append(features)
                features = self.halve(features)
        for place, up in enumerate(self.ups):
            if place:
                features = self.enlarge(features) + skips.pop()
            features = nn.functional.silu(up(features))
        image: Tensor = 2 * features - 1
        return image


def _convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 5, padding=2)
