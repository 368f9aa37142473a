"""Everything that decides a run, as one frozen dataclass; the command line is made of it.

Importing this does not import torch.
"""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from evaluator.configuration import EvaluatorConfig, SecondEvaluatorConfig
from lab.configuration.checks import require_range
from lab.configuration.data import DataConfig
from lab.configuration.diffusion import (
    BetasScheduleConfig,
    CosineScheduleConfig,
    DPMSolverConfig,
    SamplerChoice,
    ScheduleChoice,
)
from lab.configuration.guidance import GuidanceConfig
from lab.configuration.networks import ContextUnetConfig, DenoiserChoice, ImportedUNet2DConfig
from lab.configuration.sweep import SweepConfig
from lab.configuration.training import TrainingConfig
from lab.errors import LabError
from lab.machine.files import digest

Changes = dict[str, dict[str, Any]]
"""Values of fields by section of an experiment, like {"denoiser": {"activation": "relu"}}."""


@dataclass(frozen=True)
class Experiment:
    """Everything that decides a run."""

    name: str = "digits"
    """The experiment's folder in checkpoints/ and in reports/."""
    generator: str = ""
    """The experiment whose checkpoints are swept, which are trained there where they are not yet; this one's own where
    left out."""
    root: Path = Path()
    """The folder that holds data/, checkpoints/ and reports/."""
    seed: int = 0
    """Decides the initial weights and all randomness of training. Splits and sampling noise have seeds of their own."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:1, mps, ..."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What the denoiser is computed in: bfloat16 where the device has units for it, float32 elsewhere; or as told."""
    compiled: bool = False
    """Have torch compile the denoiser, on a GPU into CUDA graphs: minutes before the first step, faster ones then."""
    preview_every: int = 0
    """Training steps between pictures of what the denoiser makes so far, in reports/NAME/previews/; 0 for none."""
    data: DataConfig = field(default_factory=DataConfig)
    evaluator: EvaluatorConfig = field(default_factory=EvaluatorConfig)
    second_evaluator: SecondEvaluatorConfig = field(default_factory=SecondEvaluatorConfig)
    denoiser: DenoiserChoice | ImportedUNet2DConfig = field(default_factory=ContextUnetConfig)
    schedule: ScheduleChoice | BetasScheduleConfig = field(default_factory=CosineScheduleConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    sampler: SamplerChoice = field(default_factory=DPMSolverConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)

    def __post_init__(self) -> None:
        for field_name, found in (("name", self.name), ("generator", self.generator or self.name)):
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", found):
                raise LabError(f"--{field_name} is {found!r}; allowed are up to 100 letters, digits, '.', '_' and '-'")
        require_range("seed", self.seed, 0, 1_000_000)
        require_range("preview_every", self.preview_every, 0, 1_000_000)
        # Where nothing is trained, the noise schedule is the imported checkpoint's, and not known yet.
        if self.training.epochs and self.sampler.sampling_steps > self.schedule.timesteps:
            raise LabError(
                f"--sampler.sampling-steps is {self.sampler.sampling_steps}; "
                f"allowed is at most --schedule.timesteps, which is {self.schedule.timesteps}"
            )

        if self.second_evaluator.share and self.second_evaluator.kind == self.evaluator.kind:
            raise LabError(
                f"--second-evaluator.kind is {self.second_evaluator.kind}, as --evaluator.kind is; "
                f"choose another, or their mistakes are the same"
            )

    @property
    def checkpoints(self) -> Path:
        """Where this experiment's evaluators and cells are kept, and its denoisers where they are its own."""
        return self.root / "checkpoints" / self.name

    @property
    def denoisers(self) -> Path:
        """Where the checkpoints that are swept are kept."""
        return self.root / "checkpoints" / (self.generator or self.name)

    @property
    def evaluator_file(self) -> Path:
        """The evaluator: the one that was asked for, or the one this experiment trains."""
        weights = self.evaluator.weights
        return self.checkpoints / "evaluator.pt" if weights is None else self.root / weights

    @property
    def second_evaluator_file(self) -> Path:
        """The second evaluator, which this experiment trains."""
        return self.checkpoints / "second_evaluator.pt"

    @property
    def reports(self) -> Path:
        """Where this experiment's report is written."""
        return self.root / "reports" / self.name

    @property
    def images(self) -> Path:
        """Where this experiment's images are, or are downloaded to."""
        return self.root / (self.data.folder or Path("data") / self.data.dataset)

    @property
    def labels_folder(self) -> Path | None:
        """Where objects.json and train.json are, if the experiment says so."""
        return None if self.data.labels_folder is None else self.root / self.data.labels_folder

    @property
    def cache(self) -> Path:
        """Where decoded images are kept, for all experiments."""
        return self.root / "data" / "cache"

    def generator_settings(self) -> dict[str, Any]:
        """Return the settings that decide the checkpoints, by section; a checkpoint of others is refused."""
        settings = {
            "data": self._deciding_data,
            "seed": self.seed,
            "denoiser": self.denoiser,
            "schedule": self.schedule,
        }
        # Which weights a training starts from counts, not where their file lies.
        start = {"start_from": digest(self.root / path)} if (path := self.training.start_from) is not None else {}
        return settings | {"training": replace(self.training, start_from=None)} | start

    def evaluator_settings(self) -> dict[str, Any]:
        """Return the settings that decide the evaluator, by section; one trained with others is refused."""
        sections = {key: getattr(self, key) for key in ("evaluator", "second_evaluator")}
        return {"data": self._deciding_data, "seed": self.seed, **sections}

    @property
    def _deciding_data(self) -> DataConfig:
        # Label sets decide cells, and no network; a folder of images may be moved, or linked to.
        return replace(self.data, label_sets=DataConfig.label_sets, folder=None, labels_folder=None, allow_links=False)
