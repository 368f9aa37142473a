"""The generator: data, diffusion, networks, guidance, training, sampling and the sweep.

    errors         the one exception that a user sees
    text           text from file names and users' files, always printable
    types          shapes, and what a noise predictor is
    configuration/ settings, one file for each folder below; importing them does not import torch
    machine/       files, locks, devices, precision, memory
    data/          images and what they show
    diffusion/     noise schedules, objectives, samplers
    networks/      denoisers
    guidance/      methods of guidance, one file each
    training/      training, and what it leaves on disk
    sweep/         sweep cells, and what runs them
    scenes/        rendered stand-ins for the i-CLEVR images
    pipelines      folders in diffusers' form, written and read
    tutorial       what the tutorials show of the corruption baseline and of noising
    library        train, sample and load from Python

What a notebook needs can be had as `lab.train`, `lab.sample` and so on; it is imported at its first use, so that the
command line answers without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.configuration.diffusion import DDIMConfig, DPMSolverConfig
    from lab.configuration.networks import BasicUNetConfig, ContextUnetConfig, UNet2DConfig
    from lab.configuration.training import TrainingConfig
    from lab.data.datasets import digits, mnist5k, stratified_splits
    from lab.data.image_folders import class_folders, image_folder, scene_folder
    from lab.library import bring_back, sample, sample_with, train
    from lab.training.checkpoints import read_checkpoint, save_checkpoint
    from lab.training.distillation import distilled_recipe
    from lab.training.recipe import Recipe

__all__ = [
    "BasicUNetConfig",
    "ContextUnetConfig",
    "DDIMConfig",
    "DPMSolverConfig",
    "Recipe",
    "TrainingConfig",
    "UNet2DConfig",
    "bring_back",
    "class_folders",
    "digits",
    "distilled_recipe",
    "image_folder",
    "mnist5k",
    "read_checkpoint",
    "sample",
    "sample_with",
    "save_checkpoint",
    "scene_folder",
    "stratified_splits",
    "train",
]

_ROOMS = {
    "lab.configuration.diffusion": ("DDIMConfig", "DPMSolverConfig"),
    "lab.configuration.networks": ("BasicUNetConfig", "ContextUnetConfig", "UNet2DConfig"),
    "lab.configuration.training": ("TrainingConfig",),
    "lab.data.datasets": ("digits", "mnist5k", "stratified_splits"),
    "lab.data.image_folders": ("class_folders", "image_folder", "scene_folder"),
    "lab.library": ("bring_back", "sample", "sample_with", "train"),
    "lab.training.checkpoints": ("read_checkpoint", "save_checkpoint"),
    "lab.training.distillation": ("distilled_recipe",),
    "lab.training.recipe": ("Recipe",),
}


def __getattr__(name: str) -> Any:
    """Import a name of `__all__` at its first use."""
    for room, names in _ROOMS.items():
        if name in names:
            return getattr(import_module(room), name)
    raise AttributeError(f"module 'lab' has no attribute {name!r}; it has {', '.join(__all__)}")
