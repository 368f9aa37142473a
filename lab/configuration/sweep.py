"""Settings of the sweep."""

from dataclasses import dataclass

from lab.configuration.checks import require_ema_lengths, require_range
from lab.errors import LabError


@dataclass(frozen=True)
class SweepConfig:
    """The sweep cells of each checkpoint."""

    guidance_weights: tuple[float, ...] = (-1.0, 0.0, 0.5, 1.0, 2.0, 4.0)
    """w in eps = (1 + w) eps_conditional - w eps_unconditional: -1 unconditional, 0 conditional, above 0 guided."""
    ema_lengths: tuple[float, ...] = ()
    """Lengths (sigma_rel) of EMAs that are rebuilt at the end of the training and swept like checkpoints, like
    0.03 0.05 0.1; by default none. They need --training.power-emas."""
    seeds: int = 5
    """Number of images for each label set, each from its own starting noise."""
    batch_size: int = 0
    """Images sampled together; 0 means as many as fit into memory. It affects the speed, not the images."""
    newest: int = 0
    """Number of checkpoints to sweep, counted from the newest; 0 means all."""
    lift_draws: int = 0
    """Draws of noise for the lift of each image of the best row's checkpoint, by which best_of_n.csv chooses images; 0
    for none. A draw costs two network evaluations."""
    workers: int = 0
    """Processes that run cells, or the trainings of an ablation or of --seeds. 0 means one for each GPU if there are
    several, otherwise the run itself. It affects the speed, not the images."""
    threads: int = 0
    """CPU threads that compute a cell; 0 for as many as torch chooses. On digits, two workers with one thread each are
    faster than one process with two. Another number of threads may round differently; another number of workers does
    not."""
    cluster: str = ""
    """Address of a running Dask scheduler, like tcp://10.0.0.1:8786, whose workers run the cells (extra [cluster])."""

    def __post_init__(self) -> None:
        if not self.guidance_weights:
            raise LabError("--sweep.guidance-weights is empty; give at least one weight, for example 0 2")
        for weight in self.guidance_weights:
            require_range("sweep.guidance_weights", weight, -1, 100)
            if self.guidance_weights.count(weight) > 1:
                raise LabError(f"--sweep.guidance-weights has {weight:g} twice; give each weight once")
        require_ema_lengths("sweep.ema_lengths", self.ema_lengths)
        require_range("sweep.seeds", self.seeds, 1, 10_000)
        require_range("sweep.batch_size", self.batch_size, 0)
        require_range("sweep.newest", self.newest, 0)
        require_range("sweep.lift_draws", self.lift_draws, 0, 1000)
        require_range("sweep.workers", self.workers, 0, 1000)
        require_range("sweep.threads", self.threads, 0, 1000)
        if self.workers and self.cluster:
            raise LabError(
                f"--sweep.workers is {self.workers} and --sweep.cluster is {self.cluster}; remove one: cells run in "
                f"processes of this machine or on a cluster"
            )
