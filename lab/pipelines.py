"""Pipelines: folders in diffusers' form, written from a checkpoint and read as one (extra [diffusers]).

    model_index.json              says that it is a DDPMPipeline
    scheduler/                    the noise schedule
    unet/                         UNet2DModel, its configuration and weights

Early folders, like google/ddpm-cifar10-32, have the files of both beside model_index.json; they are read too.

A checkpoint of another network than an unconditional UNet2DModel has a noise schedule that diffusers can use, and no
more: of it only scheduler/ is written. A folder that is read becomes an unconditional checkpoint.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from lab.configuration.diffusion import CosineScheduleConfig, DiffusersDDPMConfig, LinearScheduleConfig, ScheduleConfig
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


def export_pipeline(checkpoint: Checkpoint, folder: Path) -> bool:
    """Write a checkpoint as a folder of diffusers; True where it is a whole pipeline, False where scheduler/ alone.

    Raises:
        LabError: the folder is not empty or cannot be written to, the noise schedule is the corruption's, which
            diffusers does not have, or diffusers is not installed.
    """
    unet2d_model()
    import diffusers
    from safetensors import SafetensorError

    config, schedule = checkpoint.schedule, noise_schedule(checkpoint.schedule)
    if not schedule.preserves_variance:
        raise LabError(
            f"--schedule.kind {config.kind} does not preserve variance, so diffusers has no scheduler for it"
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
        isinstance(network, ImportedUNet) or (isinstance(network, DiffusersUNet) and network.timed)
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


def import_pipeline(folder: Path, vocabulary: ClassVocabulary) -> Checkpoint:
    """Return the UNet2DModel of a folder of diffusers as an unconditional checkpoint.

    Args:
        folder: with scheduler/ and unet/, or their files.
        vocabulary: of the label sets that it will be sampled for, of which it is not told.

    Raises:
        LabError: the folder is no such pipeline, its noise schedule or network is not one the lab has, or diffusers is
            not installed.
    """
    unet2d_model()
    import diffusers

    of_network = folder / "unet" if (folder / "unet").is_dir() else folder
    of_schedule = folder / "scheduler" if (folder / "scheduler").is_dir() else folder
    settings = _settings(of_schedule / "scheduler_config.json")
    told = _settings(of_network / "config.json")
    if told.get("_class_name") != "UNet2DModel" or told.get("class_embed_type") or told.get("num_class_embeds"):
        raise LabError(f"{folder}: its network is {told.get('_class_name')}; allowed is an unconditional UNet2DModel")
    predictions = {theirs: ours for ours, theirs in PREDICTIONS.items()}
    prediction = predictions.get(str(found := settings.get("prediction_type", "epsilon")))
    if prediction is None:
        raise LabError(f"{folder}: predicts {found!r}; allowed are {', '.join(predictions)}")
    try:
        unet = diffusers.UNet2DModel.from_pretrained(of_network, local_files_only=True)
    except Exception as error:  # whatever diffusers, huggingface_hub or safetensors raise
        raise LabError(f"{of_network}: cannot be read ({lines_of(error)[0]:.120})") from None
    config = {key: value for key, value in unet.config.items() if not key.startswith("_")}
    if config["out_channels"] != config["in_channels"]:
        raise LabError(
            f"{folder}: its network has {config['in_channels']} channels in and {config['out_channels']} out; "
            f"allowed is one that predicts an image, as many out as in"
        )
    side = config["sample_size"]
    if not isinstance(side, int):
        raise LabError(f"{folder}: its images are of side {side}; allowed is one whole number")
    return Checkpoint(
        denoiser=ImportedUNet2DConfig(prediction=prediction, unet2d=json.loads(json.dumps(config))),  # type: ignore[arg-type]  # one of the keys above
        schedule=_schedule(folder, settings),
        image_shape=(config["in_channels"], side, side),
        vocabulary=vocabulary,
        epoch=0,
        step=0,
        settings={"imported": printable(folder.name)},
        weights={f"unet.{name}": tensor for name, tensor in unet.state_dict().items()},
    )


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
    kinds = {theirs: ours for ours, theirs in SCHEDULES.items()}
    found = str(settings.get("beta_schedule", "linear"))
    if settings.get("trained_betas") is not None or settings.get("rescale_betas_zero_snr") or found not in kinds:
        raise LabError(f"{folder}: its noise schedule is none of {', '.join(kinds)}, which are those that can be read")
    try:
        timesteps = settings.get("num_train_timesteps", 1000)
        if kinds[found] == "cosine":
            return CosineScheduleConfig(timesteps=timesteps)
        return LinearScheduleConfig(
            timesteps=timesteps,
            beta_start=settings.get("beta_start", 1e-4),
            beta_end=settings.get("beta_end", 0.02),
        )
    except (LabError, TypeError) as error:
        raise LabError(f"{folder}: its noise schedule cannot be used ({error!s:.120})") from None
