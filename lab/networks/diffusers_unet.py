"""diffusers' UNet2DModel as a denoiser of this lab, with or without the condition (extra [diffusers]).

With one channel of image and channels 32, 64, 64, attention in the lower two levels, it has 1,707,009 parameters; with
three and 64, 64, 128, attention in the lowest, 4,654,723; with three and 64, 128, 128, 256, attention in the lower two,
18,536,323: the networks of the tutorials. With the condition it has one
more linear layer, whose output is added to the embedded time; a null condition adds nothing.

An imported one may embed classes in diffusers' own way: its class number i is class i of the vocabulary, and number K,
if it was trained with one more, the null condition.
"""

from typing import Any

import torch
from torch import Tensor, nn

from lab.configuration.networks import ImportedUNet2DConfig, UNet2DConfig
from lab.errors import LabError
from lab.types import Conditions, Images, Timesteps

LAYERS = 2
"""Residual blocks of a level, one more on the way up."""


class DiffusersUNet(nn.Module):
    """A UNet2DModel.

    Args:
        config: `n_feat` times `widths` are the channels of the levels; the lowest `attended_levels` have attention.
        image_shape: (channels, height, width); the sides are divisible by 2^(levels - 1).
        classes: K; a network without the condition does not use it.

    Raises:
        LabError: the images do not fit, or diffusers is not installed.
    """

    def __init__(self, config: UNet2DConfig, image_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.timed, self.zero_to_one = config.timed, config.zero_to_one
        settings = _settings(config, image_shape)
        _require_fit(settings, image_shape)
        if config.conditional:
            settings["class_embed_type"] = "identity"
        self.unet = unet2d_model()(**settings)
        embedded = 4 * settings["block_out_channels"][0]
        self.context = nn.Linear(classes, embedded, bias=False) if config.conditional else None

    def forward(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Return what is predicted of x_t, (B, C, H, W), shaped like it."""
        timesteps = timesteps.to(x_t.device, non_blocking=True)
        if not self.timed:
            timesteps = torch.zeros_like(timesteps)
        context = None if self.context is None else self.context(conditions)
        given = (x_t + 1) / 2 if self.zero_to_one else x_t
        predicted: Tensor = self.unet(given, timesteps, class_labels=context).sample
        return 2 * predicted - 1 if self.zero_to_one else predicted


class ImportedUNet(nn.Module):
    """A UNet2DModel of any configuration.

    Args:
        config: diffusers' own configuration of it, and whether it has an embedding of the null condition.
        image_shape: (channels, height, width).
        classes: K; a network without the condition does not use it.

    Raises:
        LabError: the images or the classes do not fit, or diffusers is not installed.
    """

    def __init__(self, config: ImportedUNet2DConfig, image_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        settings = dict(config.unet2d)
        _require_fit(settings, image_shape)
        embedded = settings.get("num_class_embeds")
        if config.conditional and embedded not in (None, classes + config.null_condition):
            raise LabError(f"UNet2DModel embeds {embedded} classes; the vocabulary has {classes}")
        self.conditional, self.null_condition = config.conditional, config.null_condition
        self.unet = unet2d_model()(**settings)

    def forward(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Return what is predicted of x_t, (B, C, H, W), shaped like it.

        Raises:
            LabError: a condition has several classes, or none, and the network has no null condition.
        """
        numbers = self._class_numbers(conditions) if self.conditional else None
        predicted: Tensor = self.unet(x_t, timesteps.to(x_t.device, non_blocking=True), class_labels=numbers).sample
        return predicted

    def _class_numbers(self, conditions: Conditions) -> Tensor:
        """Return diffusers' number of each condition's class, (B,)."""
        asked = (conditions > 0).sum(dim=1)
        if int(asked.max()) > 1:
            raise LabError("the imported network takes one class an image; use --guidance.method composed for several")
        if self.null_condition:
            return torch.where(asked == 0, conditions.shape[1], conditions.argmax(dim=1))
        if int(asked.min()) == 0:
            raise LabError("the imported network has no null condition; give every image one class, at weight 0")
        return conditions.argmax(dim=1)


def _require_fit(settings: dict[str, Any], image_shape: tuple[int, int, int]) -> None:
    """Raise LabError unless a UNet2DModel of these settings takes images of this shape."""
    channels, height, width = image_shape
    halvings = len(settings["block_out_channels"]) - 1
    if height % 2**halvings or width % 2**halvings or settings["in_channels"] != channels:
        raise LabError(
            f"UNet2DModel of {settings['in_channels']} channels and {halvings + 1} levels got {channels} channels "
            f"of {height}x{width}; the sides must be divisible by {2**halvings}"
        )


def _settings(config: UNet2DConfig, image_shape: tuple[int, int, int]) -> dict[str, Any]:
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
