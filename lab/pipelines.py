"""Pipelines: folders in diffusers' form, written from a checkpoint and read as one (extra [diffusers]).

    model_index.json              says that it is a DDPMPipeline
    scheduler/                    the noise schedule
    unet/                         UNet2DModel, its configuration and weights

Early folders, like google/ddpm-cifar10-32, have the files of both beside model_index.json; they are read too. So are
the folders that diffusers' training examples leave, whose unet_ema/ is preferred to unet/.

A checkpoint of another network than an unconditional UNet2DModel that is given the timestep and pixels from -1 to 1 has
a noise schedule that diffusers can use, and no more: of it only scheduler/ is written. A network that is read keeps its
class embeddings, if it has any.
"""

import json
import re
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from lab.configuration.diffusion import (
    BetasScheduleConfig,
    CosineScheduleConfig,
    DiffusersDDPMConfig,
    LinearScheduleConfig,
    ScheduleConfig,
)
from lab.configuration.networks import ImportedUNet2DConfig
from lab.data.labels import ClassVocabulary
from lab.diffusion.diffusers_samplers import scheduler
from lab.diffusion.schedules import noise_schedule
from lab.errors import LabError, lines_of
from lab.networks.diffusers_unet import DiffusersUNet, ImportedUNet, unet2d_model
from lab.text import printable, read_utf8
from lab.training.checkpoints import Checkpoint

PREDICTIONS = {"noise": "epsilon", "x_0": "sample", "v": "v_prediction"}
"""diffusers' names of what is predicted."""
SCHEDULES = {"linear": "linear", "cosine": "squaredcos_cap_v2"}
"""diffusers' names of noise schedules; others of the lab are written as a list of betas."""
WEIGHTS = "diffusion_pytorch_model"
"""How the file of a network's weights begins."""


def export_pipeline(checkpoint: Checkpoint, folder: Path) -> bool:
    """Write a checkpoint as a folder of diffusers; True where it is a whole pipeline, False where scheduler/ alone.

    Raises:
        LabError: the folder is not empty or cannot be written to, the noise schedule is one that diffusers does not
            have (the corruption's, or one with an extra beta), or diffusers is not installed.
    """
    unet2d_model()
    import diffusers
    from safetensors import SafetensorError

    config, schedule = checkpoint.schedule, noise_schedule(checkpoint.schedule)
    if not schedule.preserves_variance:
        raise LabError(
            f"--schedule.kind {config.kind} does not preserve variance, so diffusers has no scheduler for it"
        )
    if not schedule.ends_clean:
        raise LabError(
            "this checkpoint was trained with --schedule.extra-beta, and diffusers' schedulers end at the clean image "
            "instead of at alpha_bar_0; only checkpoints trained without it can be exported"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LabError(f"{folder} is not an empty folder; choose another")
    prediction = PREDICTIONS[checkpoint.denoiser.prediction]
    if config.kind in SCHEDULES and not getattr(config, "zero_terminal", False):
        ends = {name: getattr(config, name) for name in ("beta_start", "beta_end") if hasattr(config, name)}
        stepper = diffusers.DDPMScheduler(
            num_train_timesteps=config.timesteps,
            beta_schedule=SCHEDULES[config.kind],
            prediction_type=prediction,
            **ends,
        )
    else:
        stepper = scheduler(DiffusersDDPMConfig(), schedule)
        stepper.register_to_config(prediction_type=prediction)
    network = checkpoint.network(torch.device("cpu"))
    whole = not checkpoint.denoiser.conditional and (
        isinstance(network, ImportedUNet)
        or (isinstance(network, DiffusersUNet) and network.timed and not network.zero_to_one)
    )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as beside:
            written = Path(beside) / folder.name
            if whole:
                diffusers.DDPMPipeline(unet=network.unet, scheduler=stepper).save_pretrained(written)
            else:
                stepper.save_pretrained(written / "scheduler")
            written.rename(folder)
    except (OSError, SafetensorError) as error:
        raise LabError(f"{folder}: cannot write ({lines_of(error)[0]:.120}); choose another folder") from None
    return whole


def import_pipeline(folder: Path, vocabulary: ClassVocabulary | None = None) -> Checkpoint:
    """Return the UNet2DModel of a folder of diffusers as a checkpoint; its settings name the weights that were read.

    Args:
        folder: with scheduler/ and unet/ or unet_ema/, of which unet_ema/ is preferred; or their files.
        vocabulary: its class i is number i of a network that embeds classes; other networks have no condition. By
            default the classes are named by their numbers, and none of them is the null condition.

    Raises:
        LabError: the folder is no such pipeline, its noise schedule or network is not one the lab has, its classes are
            not as many as the vocabulary's, or diffusers is not installed.
    """
    unet2d_model()
    of_network = next((folder / name for name in ("unet_ema", "unet") if (folder / name).is_dir()), folder)
    settings = _settings(_scheduler_folder(folder) / "scheduler_config.json")
    network = _settings(of_network / "config.json")
    if network.get("_class_name") != "UNet2DModel":
        raise LabError(
            f"{folder}: its network is {network.get('_class_name')}; it must be an unconditional UNet2DModel, or one "
            f"that embeds classes"
        )
    predictions = {theirs: ours for ours, theirs in PREDICTIONS.items()}
    prediction = predictions.get(str(predicted := settings.get("prediction_type", "epsilon")))
    if prediction is None:
        raise LabError(f"{folder}: predicts {predicted!r}; it must predict {', '.join(predictions)}")
    unet, weights_file = _network(of_network)
    config = _own_configuration(unet)
    if config["out_channels"] != config["in_channels"]:
        raise LabError(
            f"{folder}: its network has {config['in_channels']} channels in and {config['out_channels']} out; "
            f"it must predict an image, with as many channels out as in"
        )
    vocabulary = vocabulary or _numbered(config)
    return Checkpoint(
        denoiser=ImportedUNet2DConfig(
            prediction=prediction,  # type: ignore[arg-type]  # one of the keys above
            unet2d=config,
            null_condition=_has_null_condition(folder, config, len(vocabulary)),
        ),
        schedule=_schedule(folder, settings),
        image_shape=(config["in_channels"], *_sides(folder, config["sample_size"])),
        vocabulary=vocabulary,
        epoch=0,
        step=0,
        settings={
            "imported": printable(folder.name),
            "weights": printable(str(weights_file.relative_to(folder).as_posix())),
        },
        weights={f"unet.{name}": tensor for name, tensor in unet.state_dict().items()},
    )


def _scheduler_folder(folder: Path) -> Path:
    """Return the folder of the scheduler; a training example keeps one for all of its checkpoint-N/ folders."""
    beside = [folder.resolve().parent] if folder.resolve().name.startswith("checkpoint-") else []
    return next((place / "scheduler" for place in (folder, *beside) if (place / "scheduler").is_dir()), folder)


def _network(folder: Path) -> tuple[Any, Path]:
    """Return the UNet2DModel of a folder in float32, and the file of its weights; full precision is preferred."""
    from diffusers import UNet2DModel

    names = sorted(path.name for path in folder.glob(f"{WEIGHTS}*"))
    plain = [
        name for name in names if re.fullmatch(WEIGHTS + r"(-\d+-of-\d+)?\.(safetensors|bin)(\.index\.json)?", name)
    ]
    other = [
        (name, match[1]) for name in names if (match := re.fullmatch(WEIGHTS + r"\.(\w+)\.(?:safetensors|bin)", name))
    ]
    variant = None if plain or not other else other[0][1]
    try:
        unet = UNet2DModel.from_pretrained(folder, local_files_only=True, variant=variant)
    except Exception as error:  # diffusers, huggingface_hub and safetensors each raise their own
        raise LabError(f"{folder}: cannot be read ({lines_of(error)[0]:.120})") from None
    # Of two forms, diffusers reads safetensors; of several parts, the index is named.
    read = [name for name, of in other if of == variant] if variant else plain
    return unet.float(), folder / max(read, key=lambda name: ("safetensors" in name, name))


def _own_configuration(unet: Any) -> dict[str, Any]:
    """Return what a UNet2DModel is made with, in primitives; an EMA copy's file also holds settings of the EMA."""
    own = signature(type(unet).__init__).parameters
    config: dict[str, Any] = json.loads(json.dumps({key: unet.config[key] for key in unet.config if key in own}))
    return config


def _numbered(config: Mapping[str, Any]) -> ClassVocabulary:
    """Return the classes that a network embeds, named by their numbers, or one class for a network that embeds none."""
    return ClassVocabulary(tuple(str(number) for number in range(config["num_class_embeds"] or 1)))


def _has_null_condition(folder: Path, config: Mapping[str, Any], classes: int) -> bool:
    """Return whether a network embeds one more class than the vocabulary has: the null condition.

    Raises:
        LabError: it embeds conditions in a way that the vocabulary's classes have no part in, or another number.
    """
    kind, embedded = config["class_embed_type"], config["num_class_embeds"]
    if kind not in (None, "timestep"):
        raise LabError(
            f"{folder}: its class_embed_type is {kind!r}, which leaves the embedding to a program outside of the "
            f"folder; it must be none or 'timestep'"
        )
    if embedded not in (None, classes, classes + 1):
        raise LabError(
            f"{folder}: its network embeds {embedded} classes and the vocabulary has {classes}; "
            f"the network must have {classes}, or {classes + 1} with the null condition last"
        )
    return bool(embedded == classes + 1)


def _sides(folder: Path, size: object) -> tuple[int, int]:
    """Return height and width of a `sample_size`, one number or a pair."""
    sides: list[Any] = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise LabError(f"{folder}: its sample_size is {size}; it must be a whole number, or a pair: height and width")
    return sides[0], sides[1]


def _settings(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_utf8(path))
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise LabError(f"{path}: cannot be read; a pipeline of diffusers has this file, a JSON object")
    return content


def _schedule(folder: Path, settings: dict[str, Any]) -> ScheduleConfig:
    """Return the lab's noise schedule of a scheduler's configuration."""
    import diffusers

    if (name := settings.get("_class_name")) is not None and not _has_betas(getattr(diffusers, str(name), None)):
        raise LabError(f"{folder}: its scheduler {name} has no betas; choose one that has, like DDPMScheduler")
    kinds = {theirs: ours for ours, theirs in SCHEDULES.items()}
    betas, found = settings.get("trained_betas"), str(settings.get("beta_schedule", "linear"))
    timesteps = settings.get("num_train_timesteps", 1000)
    zero_terminal = settings.get("rescale_betas_zero_snr", False)
    if betas is None and found not in kinds:
        raise LabError(f"{folder}: its noise schedule is none of {', '.join(kinds)}, nor a list of betas")
    try:
        if betas is not None:
            if len(betas) != timesteps:
                raise LabError(f"it has {timesteps} timesteps and {len(betas)} betas")
            return BetasScheduleConfig(betas=tuple(betas), zero_terminal=zero_terminal)
        if kinds[found] == "cosine":
            return CosineScheduleConfig(timesteps=timesteps, zero_terminal=zero_terminal)
        return LinearScheduleConfig(
            timesteps=timesteps,
            beta_start=settings.get("beta_start", 1e-4),
            beta_end=settings.get("beta_end", 0.02),
            zero_terminal=zero_terminal,
        )
    except (LabError, TypeError) as error:
        raise LabError(f"{folder}: its noise schedule cannot be used ({error!s:.120})") from None


def _has_betas(scheduler_class: object) -> bool:
    return isinstance(scheduler_class, type) and "trained_betas" in signature(scheduler_class.__init__).parameters  # type: ignore[misc]  # of the class itself
