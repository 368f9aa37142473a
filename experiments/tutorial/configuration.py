"""Everything that decides a tutorial, as one frozen dataclass; importing this does not import torch.

What a step decides for itself (its network, noise schedule, sampler) is no option, so no flag is ignored.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from evaluator.configuration import EvaluatorConfig
from experiments.configuration import Experiment
from lab.configuration.checks import require_range
from lab.configuration.data import DataConfig
from lab.configuration.sweep import SweepConfig
from lab.errors import LabError


@dataclass(frozen=True)
class Tutorial:
    """Everything that decides a run."""

    name: str = "tutorial-digits"
    """The tutorial's folder in checkpoints/ and in reports/; its steps have folders of their own, NAME-STEP."""
    root: Path = Path()
    """The folder that holds data/, checkpoints/ and reports/."""
    seed: int = 0
    """Decides the initial weights and all randomness of training. Splits and sampling noise have seeds of their own."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:1, mps, ..."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """The denoisers' arithmetic. auto: bfloat16 if the device has units for it and the network is wide, or float32."""
    epochs: int = 75
    """Passes over the generator's split in every training, so that all take equally many optimizer steps."""
    batch_size: int = 32
    """Images in one optimizer step of every training."""
    n_feat: int = 32
    """Width of the networks: their channels are this or twice as many."""
    seeds: int = 2
    """Images sampled for every label set."""
    data: DataConfig = field(default_factory=lambda: DataConfig(label_sets=DataConfig.label_sets[:1]))
    evaluator: EvaluatorConfig = field(default_factory=EvaluatorConfig)

    def __post_init__(self) -> None:
        require_range("epochs", self.epochs, 1)
        require_range("batch_size", self.batch_size, 1)
        if self.n_feat not in range(32, 1025, 32):
            raise LabError(f"--n-feat is {self.n_feat}; it must be a multiple of 32 from 32 to 1024")
        require_range("seeds", self.seeds, 1)
        if len(self.data.label_sets) > 1:
            raise LabError(
                f"--data.label-sets has {len(self.data.label_sets)} files; give one, because the tutorial ranks nothing"
            )
        _ = self.base  # an experiment checks its own settings

    @property
    def base(self) -> Experiment:
        """What the steps have in common: folders, data, evaluator and label sets."""
        return Experiment(
            name=self.name,
            root=self.root,
            seed=self.seed,
            device=self.device,
            precision=self.precision,
            data=self.data,
            evaluator=self.evaluator,
            sweep=SweepConfig(seeds=self.seeds),
        )

    @property
    def checkpoints(self) -> Path:
        """Where the shared evaluator is kept; every step keeps its checkpoints beside it."""
        return self.base.checkpoints

    @property
    def reports(self) -> Path:
        """Where the table, the figures and the page are written."""
        return self.base.reports
