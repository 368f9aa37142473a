"""Settings of guidance: the methods that are swept."""

from dataclasses import dataclass

from lab.errors import LabError


@dataclass(frozen=True)
class GuidanceConfig:
    """The methods of guidance that are swept; each method's file in `lab/guidance/` has its equation and settings."""

    method: tuple[str, ...] = ("plain",)
    """Methods, each with its settings, like interval:low=0.1,high=2. plain: classifier-free guidance. interval (low,
    high): only between two noise levels. schedule (shape, smallest): a weight that changes with t. rescale (phi).
    projected (eta, momentum, largest_norm): APG. plus_plus: CFG++, for DDIM and -1 <= w <= 0. auto: autoguidance by the
    run's first checkpoint. composed (avoid, avoided_scale): a label set's classes one by one. A method may stand
    several times, with different settings."""

    def __post_init__(self) -> None:
        if not self.method:
            raise LabError("--guidance.method is empty; give at least one method, like plain")
