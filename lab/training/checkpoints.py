"""Checkpoints: a denoiser's EMA weights with all that is needed to sample from them again.

The files are tensors and primitives only.
"""

import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lab.configuration.checks import as_primitives
from lab.configuration.diffusion import ScheduleConfig, require_current_cyclic_cosine
from lab.configuration.kinds import read_kind
from lab.configuration.networks import DenoiserConfig
from lab.data.labels import ClassVocabulary
from lab.diffusion.objectives import AsNoisePredictor
from lab.diffusion.schedules import SCHEDULES, noise_schedule
from lab.errors import LabError, lines_of, listed, nearest
from lab.machine.computation import Computation
from lab.machine.files import load_tensors, require_format, require_keys, save_tensors
from lab.machine.precision import InPrecision, as_compiled
from lab.networks.registry import NETWORKS, build_denoiser
from lab.types import NoisePredictor

FORMAT = 3
"""Raise it when what a checkpoint or a training state holds changes; a setting with a default may be added without."""
KEYS = ("denoiser", "schedule", "image_shape", "vocabulary", "epoch", "step", "settings", "weights")
"""What a checkpoint's file must hold."""


@dataclass(frozen=True)
class Checkpoint:
    """A denoiser at one moment of its training.

    Args:
        denoiser: the network's configuration.
        schedule: the noise schedule it was trained on.
        image_shape: (channels, height, width).
        vocabulary: the classes of its conditions.
        epoch: passes over the data so far.
        step: optimizer steps so far.
        settings: all that decided the run, as nested dictionaries of primitives.
        weights: the EMA copy's state.
    """

    denoiser: DenoiserConfig
    schedule: ScheduleConfig
    image_shape: tuple[int, int, int]
    vocabulary: ClassVocabulary
    epoch: int
    step: int
    settings: dict[str, Any]
    weights: dict[str, Tensor]

    @property
    def training(self) -> dict[str, Any]:
        """The settings of the training by name, {} if they are not known.

        `start_from` is the file that it started from or, of an experiment, the file's digest; None if there was none.
        """
        training: dict[str, Any] = self.settings.get("training", {})
        return training | ({"start_from": start} if (start := self.settings.get("start_from")) is not None else {})

    @property
    def parameters(self) -> int:
        """The number of the network's parameters."""
        return sum(parameter.numel() for parameter in self.network(torch.device("cpu")).parameters())

    @property
    def digest(self) -> str:
        """The SHA-256 of all weights with their names, as 16 hexadecimal digits."""
        digest = hashlib.sha256()
        for name, weights in self.weights.items():
            digest.update(name.encode())
            digest.update(weights.contiguous().cpu().numpy().data)
        return digest.hexdigest()[:16]

    def network(self, device: torch.device) -> nn.Module:
        """Return the network with these weights, on this device."""
        network = build_denoiser(self.denoiser, self.image_shape, self.vocabulary.names, self.schedule, seed=0)
        network.load_state_dict(self.weights)
        return network.to(device).eval()

    def require_fit(self) -> None:
        """Raise torch's error unless the weights fit the network that the configuration describes.

        It is built where nothing takes memory: a hostile file may describe a network of any size.
        """
        with torch.device("meta"):
            network = build_denoiser(self.denoiser, self.image_shape, self.vocabulary.names, self.schedule, seed=0)
        network.load_state_dict(self.weights, assign=True)

    def noise_predictor(self, computation: Computation | None = None) -> NoisePredictor:
        """Return the network as a noise predictor, by default on the CPU in float32."""
        computation = computation or Computation()
        # A gradient may pass through the network, but never to its weights.
        network = self.network(computation.device).requires_grad_(False)
        computed = InPrecision(as_compiled(network) if computation.compiled else network, computation.precision)
        return AsNoisePredictor(computed, self.denoiser.prediction, noise_schedule(self.schedule))


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        LabError: the file cannot be written.
    """
    save_tensors(
        path,
        {
            "format": FORMAT,
            "versions": versions(),
            **{key: getattr(checkpoint, key) for key in ("image_shape", "epoch", "step", "settings", "weights")},
            **as_primitives({"denoiser": checkpoint.denoiser, "schedule": checkpoint.schedule}),
            "vocabulary": list(checkpoint.vocabulary.names),
        },
    )


def versions() -> dict[str, str]:
    """Return the versions that a file was written with."""
    return {"python": platform.python_version(), "torch": str(torch.__version__), "numpy": np.__version__}


def load_checkpoint(path: Path, vocabulary: ClassVocabulary) -> Checkpoint:
    """Read a checkpoint and refuse one of another vocabulary.

    Raises:
        LabError: as `read_checkpoint`; or the checkpoint's vocabulary is another.
    """
    checkpoint = read_checkpoint(path)
    checkpoint.vocabulary.require_same(vocabulary, path)
    return checkpoint


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of any vocabulary.

    Raises:
        LabError: the file is missing, damaged, of another format or of the earlier cyclic cosine, or its weights do not
            fit its own configuration.
    """
    if not path.exists():
        beside = sorted(other.name for other in path.parent.glob("*.pt"))
        raise LabError(f"{path}: no such checkpoint{nearest(path.name, beside)}")
    content = load_tensors(path, "checkpoint", "restore a copy, or train again")
    if "config" in content:
        raise LabError(f"{path}: this file contains an evaluator, not a denoiser; give a checkpoint like epoch0075.pt")
    require_format(path, content.get("format"), FORMAT, listed(content))
    require_keys(path, "checkpoint", content, KEYS)
    require_current_cyclic_cosine(path, content["schedule"])
    try:
        checkpoint = Checkpoint(
            denoiser=read_kind(NETWORKS, content["denoiser"], "denoiser"),
            schedule=read_kind(SCHEDULES, content["schedule"], "schedule"),
            image_shape=tuple(content["image_shape"]),
            vocabulary=ClassVocabulary(tuple(content["vocabulary"])),
            epoch=content["epoch"],
            step=content["step"],
            settings=content["settings"],
            weights=content["weights"],
        )
    except Exception as error:  # wrong content of a file makes the checks of settings fail in many ways
        raise LabError(f"{path}: this checkpoint is incomplete ({error!s:.120}); train it again") from None
    try:
        checkpoint.require_fit()
    except Exception as error:  # wrong settings make the building of a network fail in many ways
        reason = lines_of(error)[-1]
        raise LabError(f"{path}: these weights do not fit the checkpoint's own configuration ({reason:.120})") from None
    return checkpoint
