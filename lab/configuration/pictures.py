"""Settings of the denoising pictures: the moments of sampling that a report shows."""

from dataclasses import dataclass

from lab.configuration.checks import require_range
from lab.errors import LabError

MOMENTS = 10
"""Columns of the denoising strip by default."""


@dataclass(frozen=True)
class PicturesConfig:
    """The moments of sampling that a report shows."""

    steps: tuple[int, ...] = ()
    """Sampling steps after which the denoising strip shows x; 0 is the starting noise. By default ten moments, evenly
    spaced from noise to image."""
    clean_first: bool = False
    """Begin the denoising strip with the finished image and end it with the noise."""
    grid: int = 0
    """Images in denoising/step0100.png and its like, one file for each of these steps; 0 writes no such files."""

    def __post_init__(self) -> None:
        require_range("pictures.grid", self.grid, 0, 1024)
        if list(self.steps) != sorted(set(self.steps)):
            raise LabError("--pictures.steps must rise from step to step, and no step may occur twice")

    def require_steps(self, sampling_steps: int) -> None:
        """Raise LabError if a step is not one of the sampler's."""
        for step in self.steps:
            if not 0 <= step <= sampling_steps:
                raise LabError(
                    f"--pictures.steps contains {step}; it must be from 0 to --sampler.sampling-steps, which is "
                    f"{sampling_steps}; give other steps, or --pictures.steps without any for ten moments"
                )

    def shown(self, sampling_steps: int) -> tuple[int, ...]:
        """Return the steps that are shown, in rising order."""
        count = min(MOMENTS, sampling_steps + 1)
        return self.steps or tuple(round(place * sampling_steps / (count - 1)) for place in range(count))
