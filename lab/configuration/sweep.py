"""Settings of the sweep."""

from dataclasses import dataclass

from lab.configuration.checks import require_range
from lab.errors import LabError


@dataclass(frozen=True)
class SweepConfig:
    """Which sweep cells are sampled from every kept checkpoint."""

    guidance_weights: tuple[float, ...] = (-1.0, 0.0, 0.5, 1.0, 2.0, 4.0)
    """w in eps = (1 + w) eps_conditional - w eps_unconditional: -1 unconditional, 0 conditional, above 0 guided."""
    seeds: int = 5
    """Images drawn for every label set, each from its own starting noise."""
    batch_size: int = 0
    """Images sampled together, 0 for as many as fit into memory; it changes speed, not the images."""
    newest: int = 0
    """How many of the kept checkpoints are swept, the newest ones; 0 for all."""

    def __post_init__(self) -> None:
        if not self.guidance_weights:
            raise LabError("--sweep.guidance-weights is empty; give at least one weight, like 0 2")
        for weight in self.guidance_weights:
            require_range("sweep.guidance_weights", weight, -1, 100)
            if self.guidance_weights.count(weight) > 1:
                raise LabError(f"--sweep.guidance-weights holds {weight:g} twice; name each weight once")
        require_range("sweep.seeds", self.seeds, 1, 10_000)
        require_range("sweep.batch_size", self.batch_size, 0)
        require_range("sweep.newest", self.newest, 0)
