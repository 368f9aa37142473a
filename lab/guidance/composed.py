"""Composed guidance over the members of a label set (Liu et al. 2022, arXiv:2206.01714, equation 11).

    eps = eps_u + sum_i s_i (eps_i - eps_u)

with eps_i the prediction for member i alone; s_i = 1 + w for a class that is asked for, and `avoided_scale`, below 0,
for one that is to stay away. A network is so asked for sets that it never saw together. Neutral: sets of one, none
avoided.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from lab.configuration.checks import require_range
from lab.guidance.classifier_free import ClassifierFreeGuidance, null_conditions
from lab.guidance.method import Facts, Unguided
from lab.types import Conditions, Images, NoisePredictor, Timesteps


@dataclass(frozen=True)
class Composed:
    """Guidance at scale 1 + w towards each class asked for, and away from the avoided ones.

    Args:
        predictor: the noise predictor.
        weight: w.
        avoided: (K,), True at the classes to keep away.
        avoided_scale: the scale s of each of those, 0 or less.
    """

    predictor: NoisePredictor
    weight: float
    avoided: torch.Tensor
    avoided_scale: float

    def __call__(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Return the guided noise, shaped like x_t."""
        avoided = self.avoided.to(conditions.device) & (conditions == 0) if self.avoided_scale else conditions < 0
        asked = conditions > 0
        if not avoided.any() and bool((asked.sum(dim=1) <= 1).all()):
            return ClassifierFreeGuidance(self.predictor, self.weight)(x_t, timesteps, conditions)
        # One row for each (image, member), behind the unconditional rows.
        image, member = (asked | avoided).nonzero(as_tuple=True)
        alone = torch.zeros(len(image), conditions.shape[1], device=conditions.device, dtype=conditions.dtype)
        alone[torch.arange(len(image), device=conditions.device), member] = 1
        rows = (
            torch.cat((x_t, x_t[image])),
            torch.cat((timesteps, timesteps[image.to(timesteps.device)])),
            torch.cat((null_conditions(conditions), alone)),
        )
        # As many at once as two halves are, which is what memory was measured for.
        parts = zip(*(torch.split(of_rows, 2 * len(x_t)) for of_rows in rows), strict=True)
        predicted = torch.cat([self.predictor(*part) for part in parts])
        unconditional, members = predicted[: len(x_t)], predicted[len(x_t) :]
        scales = torch.where(asked[image, member], 1 + self.weight, self.avoided_scale).to(x_t.dtype)
        steps = scales.view(-1, 1, 1, 1) * (members - unconditional[image])
        return unconditional.index_add(0, image, steps)


@dataclass(frozen=True)
class ComposedMethod:
    """`composed`: guidance by each class of a label set on its own, and away from others.

    Args:
        avoid: class names to guide away from.
        avoided_scale: the guidance scale of each of those, -100 to 0.
    """

    avoid: tuple[str, ...] = ()
    avoided_scale: float = -1.0
    facts: ClassVar[Facts] = Facts(cost_depends_on_label_sets=True)

    def __post_init__(self) -> None:
        require_range("guidance.method composed:avoided_scale", self.avoided_scale, -100, 0)

    def guide(self, unguided: Unguided, weight: float) -> NoisePredictor:
        """Return the noise predictor guided at weight w.

        Raises:
            LabError: a class to avoid is not in the vocabulary.
        """
        avoided = unguided.vocabulary.conditions([self.avoid])[0] > 0
        return Composed(unguided.predictor, weight, avoided, self.avoided_scale)
