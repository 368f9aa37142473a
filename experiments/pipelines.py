"""The commands that export a checkpoint to diffusers and import one. Importing this module does not import torch."""

from dataclasses import dataclass
from pathlib import Path

from lab.configuration.networks import DenoiserConfig
from lab.errors import LabError


@dataclass(frozen=True)
class Export:
    """Settings of the export."""

    checkpoint: Path
    """The checkpoint to export, such as checkpoints/digits/epoch0075.pt."""
    out: Path
    """The folder to write to, new or empty."""
    vocabulary: Path
    """The `objects.json` that the checkpoint was trained with."""


@dataclass(frozen=True)
class Import:
    """Settings of the import."""

    pipeline: Path
    """The pipeline's folder, which contains scheduler/ and unet/ or unet_ema/. unet_ema/ is preferred."""
    name: str
    """The experiment that receives the checkpoint. Sweep it with --training.epochs 0."""
    vocabulary: Path
    """The `objects.json` of the label sets that it will be sampled with. If the network embeds classes, its class i is
    class i of this file."""
    root: Path = Path()
    """The folder that contains checkpoints/."""


def write_pipeline(settings: Export) -> None:
    """Write the pipeline's folder and print its contents."""
    from lab.data.labels import load_vocabulary
    from lab.pipelines import export_pipeline
    from lab.training.checkpoints import load_checkpoint

    checkpoint = load_checkpoint(settings.checkpoint, load_vocabulary(settings.vocabulary))
    whole = export_pipeline(checkpoint, settings.out)
    content = "a DDPMPipeline" if whole else "only scheduler/, because the network is not an unconditional UNet2DModel"
    print(f"{settings.out}: {content}")


def read_pipeline(settings: Import) -> None:
    """Write the checkpoint and print the options that sweep it."""
    from experiments.configuration import Experiment
    from lab.data.labels import load_vocabulary
    from lab.machine.locks import locked
    from lab.pipelines import import_pipeline
    from lab.training.checkpoints import save_checkpoint

    imported = import_pipeline(settings.pipeline, load_vocabulary(settings.vocabulary))
    path = Experiment(name=settings.name, root=settings.root).checkpoints / "epoch0000.pt"
    with locked(path.parent):
        if existing := sorted(path.parent.glob("*.pt")):
            raise LabError(f"{existing[0]} already exists; choose another --name")
        save_checkpoint(path, imported)
    print(f"{settings.pipeline / imported.settings['weights']}: read, {_condition(imported.denoiser)}")
    weights = " --sweep.guidance-weights 0" if 0 not in imported.denoiser.label_set_sizes else ""
    print(f"{path}: sweep it with --name {settings.name} --training.epochs 0 --training.checkpoints 1{weights}")


def _condition(denoiser: DenoiserConfig) -> str:
    """Say in words which conditions an imported network has."""
    if not denoiser.conditional:
        return "without a condition"
    return f"class-conditional {'with' if 0 in denoiser.label_set_sizes else 'without'} the null condition"
