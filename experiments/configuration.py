"""Everything that decides a run, as one frozen dataclass; the command line is made of it.

Importing this does not import torch.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from evaluator.configuration import EvaluatorConfig, GuideConfig, SecondEvaluatorConfig
from lab.configuration.checks import require_name, require_range
from lab.configuration.data import DataConfig
from lab.configuration.diffusion import (
    BetasScheduleConfig,
    CosineScheduleConfig,
    DPMSolverConfig,
    SamplerChoice,
    ScheduleChoice,
)
from lab.configuration.distillation import DistillationConfig
from lab.configuration.guidance import GuidanceConfig
from lab.configuration.networks import ContextUnetConfig, DenoiserChoice, DistilledUnetConfig, ImportedUNet2DConfig
from lab.configuration.pictures import PicturesConfig
from lab.configuration.sweep import SweepConfig
from lab.configuration.training import TrainingConfig
from lab.errors import LabError
from lab.machine.files import digest


def require_steps(sampling_steps: int, timesteps: int) -> None:
    """Raise LabError if a sampler has more steps than its noise schedule has timesteps."""
    if sampling_steps > timesteps:
        raise LabError(
            f"--sampler.sampling-steps is {sampling_steps}; "
            f"it must be at most --schedule.timesteps, which is {timesteps}"
        )


Changes = dict[str, dict[str, Any]]
"""Values of fields by section of an experiment, like {"denoiser": {"activation": "relu"}}."""


@dataclass(frozen=True)
class Experiment:
    """Everything that decides a run."""

    name: str = "digits"
    """The experiment's folder in checkpoints/ and in reports/."""
    checkpoints_of: str = ""
    """The experiment whose checkpoints are swept, and trained if they are not there yet; this one's own by default."""
    evaluator_of: str = ""
    """The experiment whose evaluator scores the images, and must have been trained; this one's own by default."""
    weak_checkpoint: Path | None = None
    """The weaker checkpoint of --guidance.method auto: of this training or another experiment's, with a network that is
    smaller or trained for less; by default the training's first."""
    root: Path = Path()
    """The folder that holds data/, checkpoints/ and reports/."""
    seed: int = 0
    """Decides the initial weights and all randomness of training. Splits and sampling noise have seeds of their own."""
    seeds: tuple[int, ...] = ()
    """Training seeds. Each trains the denoiser once, in NAME-seed0 and so on, under one evaluator of --seed; the report
    in NAME has intervals over trainings and images. By default there is one training, with --seed."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:1, mps, ..."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """The networks' arithmetic; the evaluator judges in float32. auto: bfloat16 if the device has units for it and the
    network is wide or, for the evaluator's training, the images are 28x28 or larger; float32 otherwise."""
    compiled: bool = False
    """Have torch compile the denoiser, on a GPU into CUDA graphs: minutes before the first step, faster ones then."""
    preview_every: int = 0
    """Training steps between pictures of what the denoiser makes so far, in reports/NAME/previews/; 0 for none."""
    tensorboard: bool = False
    """Write losses, rates, accuracies and previews for TensorBoard to reports/NAME/tensorboard/ (extra
    [tensorboard])."""
    data: DataConfig = field(default_factory=DataConfig)
    evaluator: EvaluatorConfig = field(default_factory=EvaluatorConfig)
    second_evaluator: SecondEvaluatorConfig = field(default_factory=SecondEvaluatorConfig)
    guide: GuideConfig = field(default_factory=GuideConfig)
    denoiser: DenoiserChoice | ImportedUNet2DConfig | DistilledUnetConfig = field(default_factory=ContextUnetConfig)
    schedule: ScheduleChoice | BetasScheduleConfig = field(default_factory=CosineScheduleConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    sampler: SamplerChoice = field(default_factory=DPMSolverConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    pictures: PicturesConfig = field(default_factory=PicturesConfig)

    def __post_init__(self) -> None:
        for flag, name in (
            ("name", self.name),
            ("checkpoints-of", self.checkpoints_of),
            ("evaluator-of", self.evaluator_of),
        ):
            require_name(flag, name or self.name)
        require_range("seed", self.seed, 0, 1_000_000)
        require_range("preview_every", self.preview_every, 0, 1_000_000)
        self._require_seeds()
        # If nothing is trained or a checkpoint is distilled, the noise schedule is that checkpoint's, not known yet.
        if self.training.epochs and self.distillation.teacher is None:
            require_steps(self.sampler.sampling_steps, self.schedule.timesteps)
        if self.training.score_every and not self.denoiser.conditional:
            raise LabError(
                f"--training.score-every is {self.training.score_every}, but an unconditional denoiser has no "
                f"accuracy; set it to 0"
            )
        if self.distillation.teacher is not None and (self.training.start_from is not None or not self.training.epochs):
            given = "--training.start-from" if self.training.epochs else "--training.epochs 0"
            raise LabError(f"--distillation.teacher starts a training from the teacher's weights; remove {given}")
        self.pictures.require_steps(self.sampler.sampling_steps)
        if self.sweep.ema_lengths and not self.training.power_emas:
            raise LabError(
                "--sweep.ema-lengths rebuilds EMAs from power-function EMAs, and this training keeps none; add "
                "--training.power-emas 0.05 0.1 with another --name, or remove --sweep.ema-lengths"
            )
        self._require_shares()
        if self.second_evaluator.share and self.second_evaluator.kind == self.evaluator.kind:
            raise LabError(
                f"--second-evaluator.kind is {self.second_evaluator.kind}, as --evaluator.kind is; "
                f"choose another, or their mistakes are the same"
            )

    def _require_seeds(self) -> None:
        for seed in self.seeds:
            require_range("seeds", seed, 0, 1_000_000)
        if self.seeds and (len(self.seeds) < 2 or len(set(self.seeds)) < len(self.seeds)):
            raise LabError(
                f"--seeds is {' '.join(map(str, self.seeds))}; give two or more different ones, or --seed for one"
            )
        if self.seeds and self.checkpoints_of:
            raise LabError(
                f"--seeds trains denoisers, and --checkpoints-of {self.checkpoints_of} takes those of another "
                f"experiment; remove one of them"
            )
        if self.seeds and not self.training.epochs:
            raise LabError("--seeds trains denoisers, and --training.epochs is 0; remove one of them")

    def _require_shares(self) -> None:
        given, held_out = self.evaluator.weights is not None, self.data.held_out_share
        if given and self.evaluator_of:
            raise LabError("--evaluator.weights and --evaluator-of both name an evaluator; give one of them")
        if not given:
            for flag, share in (("evaluator-share", self.data.evaluator_share), ("held-out-share", held_out)):
                if not share:
                    raise LabError(
                        f"--data.{flag} is 0, which is allowed with --evaluator.weights only: an evaluator that is "
                        f"trained here needs images, and others to be measured on"
                    )
        # With an evaluator that is given, less than data.evaluator_share is taken.
        if self.evaluator_share + held_out > 0.99:
            raise LabError(
                f"--data.evaluator-share {self.data.evaluator_share:g} and --data.held-out-share {held_out:g} "
                f"leave no image for the generator; their sum may be 0.99 at most"
            )
        if self.second_evaluator.share and not self.data.evaluator_share:
            raise LabError(
                "--data.evaluator-share is 0, and the second evaluator (--second-evaluator.share) is trained on a part "
                "of it; raise one or set the other to 0"
            )
        if self.second_evaluator.share and not held_out:
            raise LabError(
                "--data.held-out-share is 0, and the measures of quality (--second-evaluator.share) compare with "
                "held-out images; raise one or set the other to 0"
            )

    @property
    def evaluator_share(self) -> float:
        """Share of the images that evaluators are trained on.

        An evaluator that is given as a file needs none, and a second one beside it its own share alone.
        """
        share = self.data.evaluator_share
        return share if self.evaluator.weights is None else share * self.second_evaluator.share

    @property
    def checkpoints(self) -> Path:
        """Where this experiment keeps its evaluators, its cells and, unless they are another's, its checkpoints."""
        return self.root / "checkpoints" / self.name

    @property
    def swept_checkpoints(self) -> Path:
        """Where the checkpoints that are swept are kept."""
        return self.root / "checkpoints" / (self.checkpoints_of or self.name)

    @property
    def evaluator_file(self) -> Path:
        """The evaluator: the one that is given, another experiment's, or the one that this experiment trains."""
        if self.evaluator.weights is not None:
            return self.root / self.evaluator.weights
        return self.root / "checkpoints" / (self.evaluator_of or self.name) / "evaluator.pt"

    @property
    def second_evaluator_file(self) -> Path:
        """The second evaluator, which this experiment trains."""
        return self.checkpoints / "second_evaluator.pt"

    @property
    def weak_file(self) -> Path | None:
        """The weaker checkpoint, if one is given."""
        return None if self.weak_checkpoint is None else self.root / self.weak_checkpoint

    @property
    def guide_file(self) -> Path:
        """The classifier that guides, which this experiment trains."""
        return self.checkpoints / "guide.pt"

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

    def guide_settings(self) -> dict[str, Any]:
        """Return the settings that decide the guide, by section; one trained with others is refused."""
        kind = self.guide.kind or self.evaluator.kind
        guide = replace(self.evaluator, kind=kind, weights=None)
        return {"data": self._deciding_data, "seed": self.seed, "guide": guide}

    @property
    def _deciding_data(self) -> DataConfig:
        # Label sets decide cells, and no network; a folder of images may be moved, or linked to.
        deciding = {"evaluator_share": self.evaluator_share, "held_out_share": self.data.held_out_share}
        where = {"folder": None, "labels_folder": None, "allow_links": False}
        return replace(self.data, label_sets=DataConfig.label_sets, **where, **deciding)  # type: ignore[arg-type]  # its fields
