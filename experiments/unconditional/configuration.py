"""Everything that decides an unconditional experiment, as one frozen dataclass; importing this imports no torch."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from experiments.configuration import require_steps
from lab.configuration.checks import require_name, require_range
from lab.configuration.data import ImagesConfig
from lab.configuration.diffusion import CosineScheduleConfig, DDIMConfig, SamplerChoice, ScheduleChoice
from lab.configuration.networks import ContextUnetConfig, DenoiserChoice
from lab.configuration.pictures import PicturesConfig
from lab.configuration.training import TrainingConfig
from lab.errors import LabError
from lab.machine.files import digest


@dataclass(frozen=True)
class UnconditionalExperiment:
    """Everything that decides a run."""

    name: str = "unconditional"
    """The experiment's folder in checkpoints/ and in reports/."""
    root: Path = Path()
    """The folder that holds data/, checkpoints/ and reports/."""
    seed: int = 0
    """Decides the initial weights and all randomness of training. Sampling noise has a seed of its own."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:1, mps, ..."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """The denoiser's arithmetic. auto: bfloat16 if the device has units for it and the network is wide, or float32."""
    compiled: bool = False
    """Have torch compile the denoiser for the training, on a GPU into CUDA graphs: minutes before the first step."""
    images: int = 32
    """Images sampled at the end of the training."""
    first_loss_every: int = 0
    """Epochs between the losses of an epoch's first step that are printed and in first_losses.csv; 0 for none."""
    mean_loss_every: int = 0
    """Epochs between the mean losses of an epoch that are printed and in mean_losses.csv; 0 for none."""
    bring_back: Path | None = None
    """An image file that is noised and brought back; by default the first image of the data."""
    bring_back_from: tuple[int, ...] = ()
    """Timesteps, from 0 to T - 1, that the image is noised to and brought back from; none for no brought_back.png."""
    data: ImagesConfig = field(default_factory=ImagesConfig)
    denoiser: DenoiserChoice = field(default_factory=ContextUnetConfig)
    schedule: ScheduleChoice = field(default_factory=CosineScheduleConfig)
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(context_dropout=1))
    sampler: SamplerChoice = field(default_factory=DDIMConfig)
    pictures: PicturesConfig = field(default_factory=PicturesConfig)

    def __post_init__(self) -> None:
        require_name("name", self.name)
        require_range("seed", self.seed, 0, 1_000_000)
        require_range("images", self.images, 1, 100_000)
        require_range("first_loss_every", self.first_loss_every, 0)
        require_range("mean_loss_every", self.mean_loss_every, 0)
        require_range("training.epochs", self.training.epochs, 1)
        if self.training.context_dropout != 1:
            raise LabError(
                f"--training.context-dropout is {self.training.context_dropout:g}; it must be 1 here, because the "
                f"denoiser is trained without labels"
            )
        if self.training.score_every:
            raise LabError("--training.score-every needs an evaluator, which this experiment lacks; remove it")
        if self.training.power_emas:
            raise LabError("--training.power-emas is for --sweep.ema-lengths, and nothing is swept here; remove it")
        require_steps(self.sampler.sampling_steps, self.schedule.timesteps)
        self.pictures.require_steps(self.sampler.sampling_steps)
        if self.pictures.grid > self.images:
            raise LabError(
                f"--pictures.grid is {self.pictures.grid}; it must be at most --images, which is {self.images}"
            )
        self._require_bring_back()

    def _require_bring_back(self) -> None:
        for timestep in self.bring_back_from:
            if not 0 <= timestep < self.schedule.timesteps:
                raise LabError(
                    f"--bring-back-from contains {timestep}; it must be from 0 to {self.schedule.timesteps - 1}, the "
                    f"last of --schedule.timesteps"
                )
        if self.bring_back is not None and not self.bring_back_from:
            raise LabError("--bring-back needs timesteps to start from; add --bring-back-from, like 75 150 225")
        if self.bring_back_from and self.sampler.kind.startswith("diffusers_"):
            raise LabError(
                f"--bring-back-from does not work with --sampler.kind {self.sampler.kind}; choose from "
                f"ancestral, ddim, dpm_solver"
            )

    @property
    def checkpoints(self) -> Path:
        """Where this experiment keeps its checkpoints."""
        return self.root / "checkpoints" / self.name

    @property
    def reports(self) -> Path:
        """Where this experiment's report is written."""
        return self.root / "reports" / self.name

    @property
    def images_folder(self) -> Path:
        """Where this experiment's images are, or are downloaded to."""
        return self.root / (self.data.folder or Path("data") / self.data.dataset)

    @property
    def cache(self) -> Path:
        """Where decoded images are kept, for all experiments."""
        return self.root / "data" / "cache"

    @property
    def rooted_training(self) -> TrainingConfig:
        """The settings of the training, with the path that it starts from below the root."""
        start = self.training.start_from
        return replace(self.training, start_from=None if start is None else self.root / start)

    def generator_settings(self) -> dict[str, Any]:
        """Return the settings that decide the checkpoints, by section; a checkpoint of others is refused."""
        # A folder of images may be moved, or linked to, and so may the file that the training starts from.
        settings = {
            "data": {"dataset": self.data.dataset, "image_size": self.data.image_size},
            "seed": self.seed,
            "denoiser": self.denoiser,
            "schedule": self.schedule,
            "training": replace(self.training, start_from=None),
        }
        start = self.rooted_training.start_from
        return settings | ({} if start is None else {"start_from": digest(start)})
