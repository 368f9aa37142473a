"""The commands that write a checkpoint for diffusers and make one of diffusers'; importing this imports no torch."""

from dataclasses import dataclass
from pathlib import Path

from lab.configuration.networks import DenoiserConfig
from lab.errors import LabError


@dataclass(frozen=True)
class Export:
    """What is written where."""

    checkpoint: Path
    """The checkpoint, like checkpoints/digits/epoch0075.pt."""
    out: Path
    """The folder, new or empty."""
    vocabulary: Path
    """The `objects.json` that the checkpoint was trained with."""


@dataclass(frozen=True)
class Import:
    """What is read into which experiment."""

    pipeline: Path
    """The folder, with scheduler/ and unet/ or unet_ema/ in it; unet_ema/ is preferred."""
    name: str
    """The experiment whose checkpoint it becomes, to be swept with --training.epochs 0."""
    vocabulary: Path
    """The `objects.json` of the label sets that it will be sampled for; class i is number i of a network that embeds
    classes."""
    root: Path = Path()
    """The folder that holds checkpoints/."""


def write_pipeline(asked: Export) -> None:
    """Write the folder, and say what is in it."""
    from lab.data.labels import load_vocabulary
    from lab.pipelines import export_pipeline
    from lab.training.checkpoints import load_checkpoint

    checkpoint = load_checkpoint(asked.checkpoint, load_vocabulary(asked.vocabulary))
    whole = export_pipeline(checkpoint, asked.out)
    held = "a DDPMPipeline" if whole else "scheduler/ alone: the network is no unconditional UNet2DModel"
    print(f"{asked.out}: {held}")


def read_pipeline(asked: Import) -> None:
    """Write the checkpoint, and say how it is swept."""
    from experiments.configuration import Experiment
    from lab.data.labels import load_vocabulary
    from lab.machine.locks import locked
    from lab.pipelines import import_pipeline
    from lab.training.checkpoints import save_checkpoint

    imported = import_pipeline(asked.pipeline, load_vocabulary(asked.vocabulary))
    path = Experiment(name=asked.name, root=asked.root).checkpoints / "epoch0000.pt"
    with locked(path.parent):
        if found := sorted(path.parent.glob("*.pt")):
            raise LabError(f"{found[0]} is there already; choose another --name")
        save_checkpoint(path, imported)
    print(f"{asked.pipeline / imported.settings['weights']}: read, {_condition(imported.denoiser)}")
    weights = " --sweep.guidance-weights 0" if 0 not in imported.denoiser.label_set_sizes else ""
    print(f"{path}: sweep it with --name {asked.name} --training.epochs 0 --training.checkpoints 1{weights}")


def _condition(denoiser: DenoiserConfig) -> str:
    """Say in words which conditions an imported network has."""
    if not denoiser.conditional:
        return "without a condition"
    return f"class-conditional {'with' if 0 in denoiser.label_set_sizes else 'without'} the null condition"
