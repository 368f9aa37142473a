"""Settings of the methods of guidance."""

from dataclasses import dataclass
from typing import Literal

from lab.configuration.checks import require_range, require_types
from lab.errors import LabError, nearest

GUIDANCE_SETTINGS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "interval": ("interval_low", "interval_high"),
    "schedule": ("weight_shape", "smallest_weight"),
    "rescale": ("phi",),
    "projected": ("eta", "momentum", "largest_norm"),
    "plus_plus": (),
    "auto": (),
    "composed": ("avoid", "avoided_scale"),
}
"""The fields of `GuidanceConfig` that each method uses."""


@dataclass(frozen=True)
class GuidanceConfig:
    """The methods of guidance that are swept, and the settings of each; `lab/guidance/` has their equations."""

    method: tuple[
        Literal["plain", "interval", "schedule", "rescale", "projected", "plus_plus", "auto", "composed"], ...
    ] = ("plain",)
    """plain classifier-free guidance; limited to an interval of noise levels; a weight that changes with t; rescaled;
    projected (APG); CFG++ (DDIM, -1 <= w <= 0); autoguidance by the run's first checkpoint; composed."""
    interval_low: float = 0.3
    """interval: guidance begins above this sigma = sqrt((1 - alpha_bar) / alpha_bar);"""
    interval_high: float = 5.0
    """interval: and ends at this one."""
    weight_shape: Literal["constant", "linear", "cosine", "clamped"] = "linear"
    """schedule: how the weight grows as noise falls; w is its mean."""
    smallest_weight: float = 1.0
    """schedule: what the clamped shape does not go below."""
    phi: float = 0.7
    """rescale: the share of the added width that is taken back."""
    eta: float = 0.0
    """projected: the share of the part along the conditional prediction that is kept."""
    momentum: float = 0.0
    """projected: the share of the last step's difference that is added. The source's -0.5 asks for a bound on what is
    predicted at the first steps, like largest-norm."""
    largest_norm: float = 0.0
    """projected: the longest difference allowed over an image; 0 for no limit."""
    avoid: tuple[str, ...] = ()
    """composed: class names to guide away from."""
    avoided_scale: float = -1.0
    """composed: the guidance scale of each of those, 0 or less."""

    def __post_init__(self) -> None:
        require_types(self, "guidance")
        if not self.method:
            raise LabError(f"--guidance.method is empty; give at least one of {', '.join(GUIDANCE_SETTINGS)}")
        for method in self.method:
            if method not in GUIDANCE_SETTINGS:
                near = nearest(str(method), GUIDANCE_SETTINGS)
                raise LabError(f"--guidance.method is {method!r}{near}; allowed are {', '.join(GUIDANCE_SETTINGS)}")
            if self.method.count(method) > 1:
                raise LabError(f"--guidance.method holds {method} twice; name each method once")
        require_range("guidance.interval_low", self.interval_low, 0)
        require_range("guidance.interval_high", self.interval_high, self.interval_low)
        require_range("guidance.smallest_weight", self.smallest_weight, -1, 100)
        require_range("guidance.phi", self.phi, 0, 1)
        require_range("guidance.eta", self.eta, 0, 1)
        require_range("guidance.momentum", self.momentum, -0.99, 0.99)
        require_range("guidance.largest_norm", self.largest_norm, 0)
        require_range("guidance.avoided_scale", self.avoided_scale, -100, 0)
