"""DistilledUnet, a ContextUnet that takes the guidance weight w as an input, as the student of another ContextUnet.

w enters at every scale beside the time and the condition: with u = (w - lowest) / (highest - lowest),

    a, b = linear(act(linear(cos(pi k u), k = 1 to 8))),    cemb + a,    temb + b

The last linear layer is initialised to zero, so a student with its teacher's weights starts as its conditional teacher,
at every w.

w is one more column of the conditions, so that a student is called as any other network. Without this column, w is 0.

Source: w as an input as in Meng et al. 2023 (arXiv:2210.03142) and improved MeanFlow (arXiv:2512.02012).
"""

import math

import torch
from torch import Tensor, nn

from lab.configuration.networks import DistilledUnetConfig
from lab.networks.blocks import embedding
from lab.networks.context_unet import ContextUnet
from lab.types import ClassNames, Conditions, Images, Timesteps, WeightedConditions

WEIGHT_FEATURES = 8


def with_weight(conditions: Conditions, weight: float | Tensor) -> WeightedConditions:
    """Return the conditions with w as one more column; w is a number, or one number per image, (B,)."""
    column = torch.as_tensor(weight, dtype=conditions.dtype, device=conditions.device)
    return torch.cat((conditions, column.expand(len(conditions))[:, None]), dim=1)


class DistilledUnet(nn.Module):
    """A ContextUnet with the guidance weight as an input.

    Args:
        config: the options of ContextUnet, and the range of w.
        image_shape, classes, timesteps: as of `ContextUnet`.

    Raises:
        LabError: as `ContextUnet`.
    """

    def __init__(
        self, config: DistilledUnetConfig, image_shape: tuple[int, int, int], classes: ClassNames, timesteps: int
    ) -> None:
        super().__init__()
        self.unet = ContextUnet(config, image_shape, classes, timesteps)
        self.classes = len(classes)
        self.lowest, self.highest = config.guidance_weights
        lengths = [embed.context[-1].out_features for embed in self.unet.embeddings]  # type: ignore[index, union-attr]  # a Sequential
        self.weights = nn.ModuleList([embedding(WEIGHT_FEATURES, 2 * length, config) for length in lengths])
        for weights in self.weights:
            for parameter in weights[-1].parameters():  # type: ignore[index]  # a Sequential
                nn.init.zeros_(parameter)

    def forward(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Predict as the guided teacher at w; shapes (B, C, H, W), (B,), (B, K + 1) or (B, K) to (B, C, H, W)."""
        asked = conditions[:, : self.classes].to(x_t.dtype).contiguous()
        weight = conditions[:, self.classes :] if conditions.shape[1] > self.classes else torch.zeros_like(asked[:, :1])
        features = self._weight_features(weight.float()).to(x_t.dtype)
        embedded = [
            (context + of_context, time + of_time)
            for (context, time), weights in zip(self.unet.embedded(x_t, timesteps, asked), self.weights, strict=True)
            for of_context, of_time in [weights(features).chunk(2, dim=1)]
        ]
        return self.unet.predicted(x_t, embedded, asked)

    def _weight_features(self, weight: Tensor) -> Tensor:
        """Return cos(pi k u) for k = 1 to 8, (B, 8), of w, (B, 1)."""
        share = (weight - self.lowest) / (self.highest - self.lowest)
        return torch.cos(math.pi * share * torch.arange(1, WEIGHT_FEATURES + 1, device=weight.device))
