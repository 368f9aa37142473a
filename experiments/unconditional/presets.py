"""Presets of unconditional experiments: the tutorials' own, to the letter. Importing this does not import torch."""

from dataclasses import replace

from experiments.unconditional.configuration import UnconditionalExperiment
from lab.configuration.data import ImagesConfig
from lab.configuration.diffusion import CosineScheduleConfig, DDIMConfig, DiffusersDDPMConfig, LinearScheduleConfig
from lab.configuration.networks import ContextUnetConfig, UNet2DConfig
from lab.configuration.pictures import PicturesConfig
from lab.configuration.training import TrainingConfig

PLAIN = TrainingConfig(warmup_steps=0, decay="none", max_gradient_norm=0, context_dropout=1, ema_decay=0, checkpoints=1)
"""No warm-up, decay, clipping or EMA."""

BY_HAND = UnconditionalExperiment(
    name="ddpm-by-hand",
    precision="float32",
    first_loss_every=5,
    bring_back_from=(30, 75, 150, 225, 299),
    denoiser=ContextUnetConfig(n_feat=64),
    schedule=LinearScheduleConfig(timesteps=300, beta_start=1e-4, beta_end=0.02),
    training=replace(PLAIN, epochs=20, batch_size=128, drop_last=True, learning_rate=1e-3, weight_decay=0),
    sampler=DDIMConfig(sampling_steps=300, eta=1.0, clamp=False),
    pictures=PicturesConfig(steps=tuple(range(30, 301, 30)), clean_first=True),
)

CIFAR10 = UnconditionalExperiment(
    name="cifar10-ddpm",
    precision="float32",
    mean_loss_every=2,
    data=ImagesConfig(dataset="cifar10"),
    denoiser=UNet2DConfig(conditional=False, n_feat=64, widths=(1, 1, 2), attended_levels=1),
    schedule=CosineScheduleConfig(timesteps=1000),
    training=replace(
        PLAIN,
        epochs=10,
        batch_size=32,
        learning_rate=4e-4,
        weight_decay=0.01,
        checkpoints=1000,  # at most one an epoch, so one at the end of each
    ),
    sampler=DiffusersDDPMConfig(sampling_steps=1000),
    pictures=PicturesConfig(steps=(1, *range(100, 1001, 100)), grid=32),
)

UNCONDITIONAL_PRESETS: dict[str, tuple[str, UnconditionalExperiment]] = {
    "ddpm-by-hand": (
        "unconditional DDPM by hand, T = 300, of the digits or any folder of pictures, and a picture brought back",
        BY_HAND,
    ),
    "cifar10-ddpm": (
        "unconditional DDPM with diffusers on CIFAR-10, downloaded, 4.7 million parameters; not run; 4 hours on "
        "2 cores (extra [diffusers])",
        CIFAR10,
    ),
    "cifar10-ddpm-large": (
        "the same with 18.5 million parameters and mirrored images; not run; 7 hours on 2 cores (extra [diffusers])",
        replace(
            CIFAR10,
            name="cifar10-ddpm-large",
            denoiser=UNet2DConfig(conditional=False, n_feat=64, widths=(1, 2, 2, 4), attended_levels=2),
            training=replace(CIFAR10.training, mirror=True),
        ),
    ),
}
