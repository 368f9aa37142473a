"""diffusers' UNet2DModel as a denoiser of this lab, unconditional or told a label set (extra [diffusers]).

With one channel of image and channels 32, 64, 64, attention in the lower two levels, it has 1,707,009 parameters; with
three and 64, 64, 128, attention in the lowest, 4,654,723: the networks of the tutorials. Told a label set, it has one
more linear layer, whose output is added to the embedded time; a null condition adds nothing.
"""

import json
from typing import Any

import torch
from torch import Tensor, nn

from lab.configuration.networks import DenoiserConfig
from lab.errors import LabError
from lab.types import Conditions, Images, Timesteps

LAYERS = 2
"""Residual blocks of a level, one more on the way up."""


class DiffusersUNet(nn.Module):
    """A UNet2DModel.

    Args:
        config: `n_feat` times `widths` are the channels, the lowest `attended_levels` of the three levels have
            attention, and `time` "none" tells the network timestep 0 always; `unet2d`, where it is not empty, is the
            whole of diffusers' own configuration as JSON.
        image_shape: (channels, height, width); the side is divisible by 4.
        classes: K, or None for a network that is not told the condition.

    Raises:
        LabError: the images do not fit, or diffusers is not installed.
    """

    def __init__(self, config: DenoiserConfig, image_shape: tuple[int, int, int], classes: int | None) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.told_time = config.time != "none"
        settings = json.loads(config.unet2d) if config.unet2d else _settings(config, image_shape)
        halvings = len(settings["block_out_channels"]) - 1
        if height % 2**halvings or width % 2**halvings or settings["in_channels"] != channels:
            raise LabError(
                f"UNet2DModel of {settings['in_channels']} channels and {halvings + 1} levels got {channels} channels "
                f"of {height}x{width}; allowed are sides divisible by {2**halvings}"
            )
        if classes is not None:
            settings["class_embed_type"] = "identity"
        self.unet = unet2d_model()(**settings)
        self.context = nn.Linear(classes, 4 * settings["block_out_channels"][0], bias=False) if classes else None

    def forward(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Return what is predicted of x_t, (B, C, H, W), shaped like it."""
        timesteps = timesteps.to(x_t.device, non_blocking=True)
        if not self.told_time:
            timesteps = torch.zeros_like(timesteps)
        context = None if self.context is None else self.context(conditions)
        predicted: Tensor = self.unet(x_t, timesteps, class_labels=context).sample
        return predicted


def _settings(config: DenoiserConfig, image_shape: tuple[int, int, int]) -> dict[str, Any]:
    channels = [config.n_feat * times for times in config.widths]
    attended = [level >= len(channels) - config.attended_levels for level in range(len(channels))]
    return {
        "sample_size": image_shape[1],
        "in_channels": image_shape[0],
        "out_channels": image_shape[0],
        "layers_per_block": LAYERS,
        "block_out_channels": channels,
        "down_block_types": ["AttnDownBlock2D" if there else "DownBlock2D" for there in attended],
        "up_block_types": ["AttnUpBlock2D" if there else "UpBlock2D" for there in reversed(attended)],
    }


def unet2d_model() -> Any:
    """Return diffusers' UNet2DModel.

    Raises:
        LabError: diffusers is not installed.
    """
    try:
        from diffusers import UNet2DModel
    except ImportError:
        raise LabError("this needs the package diffusers; run: pip install -e '.[diffusers]'") from None
    return UNet2DModel
