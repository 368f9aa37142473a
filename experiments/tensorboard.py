"""TensorBoard (extra [tensorboard]): what `--tensorboard` writes to `reports/NAME/tensorboard/` while training runs.

The folder has the loss, the learning rate, the gradient's norm and the images per second of every step; the accuracies
that `--training.score-every` measures; and the previews of `--preview-every`. The numbers of the epochs are in
`training.csv` as well.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import LabError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from experiments.running_accuracy import Measurement
    from lab.training.trainer import Step

FOLDER = "tensorboard"
SECONDS_UNTIL_WRITTEN = 10


def require_tensorboard() -> None:
    """Raise LabError unless the package tensorboard is installed."""
    try:
        import tensorboard  # noqa: F401  # tests that the import works
    except ImportError:
        raise LabError(
            "--tensorboard needs the package tensorboard, which is not installed; run: pip install -e '.[tensorboard]'"
        ) from None


class TensorBoard:
    """The events of one training, or nothing if it is not watched.

    A training that goes on writes a new file, which replaces what a killed run wrote beyond its last saved state.

    Args:
        reports: the experiment's folder of reports, or None to write nothing.
        steps_so_far: optimizer steps that are done and saved.

    Raises:
        LabError: the package tensorboard is not installed.
    """

    def __init__(self, reports: Path | None, steps_so_far: int) -> None:
        self._writer: SummaryWriter | None = None
        self._before = time.perf_counter()
        if reports is None:
            return
        require_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        from lab.machine.files import remove_all

        folder = reports / FOLDER
        if steps_so_far == 0:
            remove_all(folder.glob("events.out.tfevents.*"))
        self._writer = SummaryWriter(str(folder), purge_step=steps_so_far + 1, flush_secs=SECONDS_UNTIL_WRITTEN)

    def add_step(self, step: Step) -> None:
        """Write the loss, the learning rate, the gradient's norm and the images per second of a step."""
        now = time.perf_counter()
        rate = step.images / (now - self._before)
        self._before = now
        self._add("training/loss", step.loss, step.step)
        self._add("training/learning_rate", step.learning_rate, step.step)
        self._add("training/gradient_norm", step.gradient_norm, step.step)
        self._add("training/images_per_second", rate, step.step)

    def add_accuracies(self, measurement: Measurement) -> None:
        """Write the accuracies of a checkpoint at w = 0, one for each label-set file."""
        for label_set_file, accuracy in measurement.accuracies.items():
            self._add(f"accuracy/{label_set_file}", accuracy, measurement.step)

    def add_preview(self, picture: Path, step: int) -> None:
        """Write a preview, which is a PNG file."""
        if self._writer is None:
            return
        import numpy as np
        from PIL import Image

        with Image.open(picture) as image:
            pixels = np.asarray(image.convert("RGB"))
        self._writer.add_image("previews", pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is not written yet."""
        if self._writer is not None:
            self._writer.close()

    def _add(self, name: str, value: float, step: int) -> None:
        if self._writer is not None:
            self._writer.add_scalar(name, value, step)
