"""Settings of the training: optimizer, warm-up and decay, weights of the loss, gradient clipping, EMA."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lab.configuration.checks import require_ema_lengths, require_range, require_same_settings, require_types
from lab.configuration.diffusion import require_current_cyclic_cosine
from lab.errors import LabError


@dataclass(frozen=True)
class TrainingConfig:
    """How the denoiser is trained: optimizer, warm-up and decay, weighting of the loss, gradient clipping, EMA."""

    epochs: int = 100
    """Passes over the generator's split; 0 for none, to sweep a checkpoint that import-pipeline wrote."""
    batch_size: int = 128
    """Images in one optimizer step."""
    drop_last: bool = False
    """Leave out the last batch of an epoch if it is smaller than the others."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """AdamW, or Muon for the large matrices and AdamW for the rest: fewer steps, each a little longer."""
    learning_rate: float = 1e-3
    """The optimizer's learning rate at its highest."""
    weight_decay: float = 0.01
    """The optimizer's decoupled weight decay."""
    weighting: Literal["as_predicted", "min_snr", "min_snr_plus_one"] = "as_predicted"
    """Weight of a timestep's squared error, as a weight of the clean image's error. as_predicted: 1 for what is
    predicted; min_snr: min(SNR, largest-weight); min_snr_plus_one: min(SNR + 1, largest-weight). SNR is
    alpha_bar / (1 - alpha_bar)."""
    largest_weight: float = 5.0
    """The gamma of min-SNR-gamma."""
    warmup_steps: int = 100
    """Optimizer steps over which the learning rate rises from 0."""
    decay: Literal["cosine", "linear", "linear_epochs", "none"] = "cosine"
    """How the learning rate falls from the end of the warm-up: to 0 at the last step, or once an epoch as in the
    coursework (linear_epochs: the share 1 - epoch / epochs, with epochs from 0)."""
    max_gradient_norm: float = 1.0
    """Gradients above this norm are scaled down to it; 0 for no limit."""
    context_dropout: float = 0.1
    """Probability, for each image on its own, that its condition is replaced by the null condition."""
    mirror: bool = False
    """Mirror half of the images left to right, anew each time: right for scenes and photographs, wrong for digits."""
    ema_decay: float = 0.999
    """Decay of the EMA copy once warmed up; before that it is (1 + n) / (10 + n) after n updates. 0 for no EMA."""
    power_emas: tuple[float, ...] = ()
    """Lengths (sigma_rel) of power-function EMAs that are kept too, like 0.05 0.1, from which --sweep.ema-lengths
    rebuilds others after the training; by default none. Their 16 snapshots lie beside the checkpoints."""
    checkpoints: int = 4
    """How many checkpoints are kept, evenly spaced, the last at the end; at most one an epoch."""
    score_every: int = 0
    """Epochs between accuracies at w = 0 that are measured while training runs, each with a checkpoint of its own; 0
    for none."""
    start_from: Path | None = None
    """A checkpoint whose weights a new training starts from; by default it starts from random weights."""

    def __post_init__(self) -> None:
        require_types(self, "training")
        require_range("training.epochs", self.epochs, 0)
        require_range("training.batch_size", self.batch_size, 1)
        require_range("training.learning_rate", self.learning_rate, 0)
        require_range("training.weight_decay", self.weight_decay, 0)
        require_range("training.largest_weight", self.largest_weight, 1e-6)
        require_range("training.warmup_steps", self.warmup_steps, 0)
        require_range("training.max_gradient_norm", self.max_gradient_norm, 0)
        require_range("training.context_dropout", self.context_dropout, 0, 1)
        require_range("training.ema_decay", self.ema_decay, 0, 0.999999)
        require_ema_lengths("training.power_emas", self.power_emas)
        require_range("training.checkpoints", self.checkpoints, 1)
        require_range("training.score_every", self.score_every, 0)
        if self.weighting == "as_predicted" and self.largest_weight != TrainingConfig.largest_weight:
            raise LabError(
                f"--training.largest-weight is {self.largest_weight:g}, which --training.weighting as_predicted does "
                f"not use; remove it, or take min_snr or min_snr_plus_one"
            )
        if self.score_every and not self.epochs:
            raise LabError(
                f"--training.score-every is {self.score_every}, and --training.epochs is 0, which trains nothing; "
                f"remove one of them"
            )
        if self.start_from is not None and not self.epochs:
            raise LabError(
                "--training.start-from is for a new training, and --training.epochs is 0; remove one of them"
            )

    @property
    def kept_epochs(self) -> list[int]:
        """The epochs at whose end a checkpoint is kept."""
        count = min(self.checkpoints, max(1, self.epochs))
        spaced = {round(self.epochs * (place + 1) / count) for place in range(count)}
        return sorted(spaced | set(self.scored_epochs))

    @property
    def scored_epochs(self) -> range:
        """The epochs at whose end the accuracy is measured while training runs."""
        return range(self.score_every, self.epochs + 1, self.score_every) if self.score_every else range(0)


def require_same_training(owner: Path, stored: object, now: Mapping[str, Any]) -> None:
    """Raise LabError unless a training was made with the settings of this run, or can go on to this run's end.

    A training whose learning rate does not fall is the same up to any epoch, so it can go on for longer.

    Args:
        owner: the file that holds the settings.
        stored: the settings it holds, as `as_primitives` returns them.
        now: the settings of this run by name, the training's in "training".
    """
    require_current_cyclic_cosine(owner, stored.get("schedule") if isinstance(stored, Mapping) else None)
    training, before = now["training"], stored.get("training") if isinstance(stored, Mapping) else None
    if isinstance(stored, Mapping) and isinstance(before, Mapping) and type(before.get("epochs")) is int:
        longer, here = training.epochs - before["epochs"], f"{owner}: this training has {before['epochs']} epochs"
        if longer and training.decay == before.get("decay") != "none":
            raise LabError(
                f"{here}, and {training.epochs} would need another learning rate at every step (--training.decay is "
                f"{training.decay})\nchoose another --name, or start anew with --training.start-from and a checkpoint"
            )
        if training.decay == before.get("decay") == "none":
            if longer < 0:
                raise LabError(f"{here}, and --training.epochs is {training.epochs}; take as many, or another --name")
            if longer:
                planned = {name: getattr(training, name) for name in ("epochs", "checkpoints", "score_every")}
                stored = {**stored, "training": {**before, **planned}}
    require_same_settings(owner, stored, now)
