"""What the command `play` samples from, and where its page is served; importing this imports no torch."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from experiments.configuration import Experiment
from experiments.presets import PRESETS
from lab.configuration.checks import require_name, require_range
from lab.errors import LabError, listed, nearest


@dataclass(frozen=True)
class Play:
    """What the page samples from, and where it is served."""

    name: Positional[str] = ""
    """The experiment whose last checkpoint is sampled from, like digits: a folder in checkpoints/."""
    checkpoint: Path | None = None
    """A checkpoint instead of an experiment, like checkpoints/digits/epoch0075.pt."""
    pipeline: Path | None = None
    """A folder of diffusers with scheduler/ and unet/ instead of an experiment. Its classes, if it has any, are named
    by their numbers: "0", "1", ..."""
    weak_checkpoint: Path | None = None
    """The weaker checkpoint of the guidance method auto, such as an earlier one of the same training."""
    evaluator: Path | None = None
    """The evaluator that judges each image; by default the experiment's, or evaluator.pt beside the checkpoint, if it
    exists."""
    root: Path = Path()
    """The folder that holds checkpoints/."""
    port: int = 0
    """The port on 127.0.0.1; 0 for one that is free."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda, cuda:1, mps, ..."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """The arithmetic of the network: bfloat16 or float32; auto takes the faster one."""

    def __post_init__(self) -> None:
        if self.name:
            require_name("name", self.name)
        if self.port:
            require_range("port", self.port, 1024, 65535)
        given = [bool(self.name), self.checkpoint is not None, self.pipeline is not None]
        if sum(given) != 1:
            count = "none" if not any(given) else "more than one"
            raise LabError(
                f"exactly one of an experiment's name, --checkpoint and --pipeline is needed, as in `play digits`; "
                f"given: {count}"
            )
        if self.pipeline is not None and self.weak_checkpoint is not None:
            raise LabError("--weak-checkpoint is for a checkpoint, and --pipeline is given; remove one of them")

    @property
    def _experiment(self) -> Experiment:
        return replace(PRESETS[self.name][1] if self.name in PRESETS else Experiment(name=self.name), root=self.root)

    def source(self) -> Path:
        """Return the checkpoint's file or the pipeline's folder.

        Raises:
            LabError: the experiment has no checkpoint.
        """
        if (given := self.checkpoint or self.pipeline) is not None:
            return given
        folder = self._experiment.swept_checkpoints
        if not (checkpoints := sorted(folder.glob("epoch*.pt"), key=lambda path: (len(path.name), path.name))):
            raise LabError(f"{folder}: no checkpoint; {self._remedy()}")
        return checkpoints[-1]

    def _remedy(self) -> str:
        if self.name in PRESETS:
            return f"run `run_experiments.py {self.name}` first"
        trained = sorted({path.parent.name for path in (self.root / "checkpoints").glob("*/epoch*.pt")})
        choices = f"choose from {listed(trained)}" if trained else "run `run_experiments.py digits` first"
        return f"{choices}, or give --checkpoint FILE{nearest(self.name, trained)}"

    def evaluator_file(self) -> Path | None:
        """Return the file of the evaluator, or None if there is none."""
        if self.evaluator is not None:
            return self.evaluator
        path = self._experiment.evaluator_file if self.name else self.source().parent / "evaluator.pt"
        return path if path.exists() else None
