"""Composed guidance over the members of a label set (Liu et al. 2022, arXiv:2206.01714, equation 11).

    eps = eps_u + sum_i s_i (eps_i - eps_u)

eps_i is the prediction for class i alone. s_i is 1 + w for a class of the label set, and `avoided_scale`, which is
negative, for a class to avoid. A network can thus draw classes that it never saw together. Neutral: label sets of one
class, and no class to avoid.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from lab.configuration.checks import require_range
from lab.guidance.classifier_free import ClassifierFreeGuidance
from lab.guidance.method import Facts, Unguided
from lab.types import Conditions, Images, NoisePredictor, Timesteps


@dataclass(frozen=True)
class Composed:
    """Guidance at scale 1 + w towards each class of the condition, and away from the classes to avoid.

    Args:
        predictor: the noise predictor.
        weight: w.
        avoided: (K,), True at the classes to avoid.
        avoided_scale: the scale s of each class to avoid, 0 or less.
    """

    predictor: NoisePredictor
    weight: float
    avoided: Tensor
    avoided_scale: float

    def __call__(self, x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        """Return the guided noise, shaped like x_t."""
        avoided = self.avoided.to(conditions.device) & (conditions == 0) if self.avoided_scale else conditions < 0
        wanted = conditions > 0
        neutral = (wanted.sum(dim=1) <= 1) & ~avoided.any(dim=1)
        plain = ClassifierFreeGuidance(self.predictor, self.weight)
        if bool(neutral.all()):
            return plain(x_t, timesteps, conditions)
        if not neutral.any():
            return self._composed(x_t, timesteps, wanted, avoided)
        # Apart, so that an image costs the same evaluations whichever others share its batch.
        first, rest, of_time = neutral, ~neutral, neutral.to(timesteps.device)
        apart = (
            plain(x_t[first], timesteps[of_time], conditions[first]),
            self._composed(x_t[rest], timesteps[~of_time], wanted[rest], avoided[rest]),
        )
        order = torch.cat((first.nonzero(), rest.nonzero())).flatten().argsort()
        return torch.cat(apart)[order]

    def _composed(self, x_t: Images, timesteps: Timesteps, wanted: Tensor, avoided: Tensor) -> Images:
        """Return the guided noise from the classes that are wanted and avoided, (B, K) each."""
        # The unconditional rows come first, then one row for each (image, member).
        image, member = (wanted | avoided).nonzero(as_tuple=True)
        alone = nn.functional.one_hot(member, wanted.shape[1]).to(x_t.dtype)
        rows = (
            torch.cat((x_t, x_t[image])),
            torch.cat((timesteps, timesteps[image.to(timesteps.device)])),
            torch.cat((alone.new_zeros(wanted.shape), alone)),
        )
        # At most two halves' worth of rows at once: images_that_fit measures memory for that many.
        parts = zip(*(torch.split(of_rows, 2 * len(x_t)) for of_rows in rows), strict=True)
        predicted = torch.cat([self.predictor(*part) for part in parts])
        unconditional, members = predicted[: len(x_t)], predicted[len(x_t) :]
        scales = torch.where(wanted[image, member], 1 + self.weight, self.avoided_scale).to(x_t.dtype)
        steps = scales.view(-1, 1, 1, 1) * (members - unconditional[image])
        return unconditional.index_add(0, image, steps)


@dataclass(frozen=True)
class ComposedMethod:
    """`composed`: one guidance term for each class of a label set, and one for each class to avoid.

    Args:
        avoid: names of the classes to guide away from.
        avoided_scale: the guidance scale of each class to avoid, -100 to 0.
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
