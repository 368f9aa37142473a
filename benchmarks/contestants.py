"""Contestants: this lab, a plain version of the coursework's recipe, diffusers, and denoising_diffusion_pytorch.

All have the same image size, ten classes and classifier-free guidance with two predictions per step, but for this lab's
students, which need one. The libraries' networks have about as many parameters as the first contestant's, as closely as
their widths allow.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
from torch import Tensor, nn

from lab.configuration.diffusion import CosineScheduleConfig, LinearScheduleConfig, SamplerChoice
from lab.configuration.networks import DenoiserConfig
from lab.configuration.training import TrainingConfig
from lab.data.datasets import DIGITS
from lab.data.labelled_images import one_label_images
from lab.diffusion.noise_source import NoiseSource
from lab.diffusion.objectives import AsNoisePredictor
from lab.diffusion.samplers import sample
from lab.diffusion.schedules import noise_schedule
from lab.guidance.classifier_free import ClassifierFreeGuidance
from lab.guidance.distilled import DistilledGuidance
from lab.machine.computation import Computation
from lab.machine.precision import InPrecision
from lab.networks.registry import build_denoiser
from lab.training.distillation import distilled_recipe
from lab.training.recipe import Recipe
from lab.training.trainer import Trainer, untrained_network

CLASSES = len(DIGITS)
WEIGHT = 2.0
COURSEWORK_STEPS = 400


@dataclass(frozen=True)
class Contestant:
    """One way to train and to sample.

    Args:
        name: name of the contestant.
        parameters: number of its network's parameters.
        train: takes one optimizer step on a batch of images in [-1, 1] and their classes.
        sample: takes this many sampler steps for images of these classes and returns them.
        sampling_steps: number of steps that an image needs.
    """

    name: str
    parameters: int
    train: Callable[[Tensor, Tensor], object]
    sample: Callable[[Tensor, int], Tensor]
    sampling_steps: int


def count(network: nn.Module) -> int:
    """Return the number of a network's parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def this_lab(
    name: str,
    denoiser: DenoiserConfig,
    sampler: SamplerChoice,
    side: int,
    batch_size: int,
    precision: str,
    distilled: bool = False,
) -> Contestant:
    """Return this lab with the given network, or a student of it that learned the sampler's steps."""
    schedule_config = CosineScheduleConfig()
    schedule = noise_schedule(schedule_config)
    pixels = torch.randint(256, (50 * batch_size, 1, side, side), dtype=torch.uint8)
    images = one_label_images(pixels, torch.arange(len(pixels)) % CLASSES, DIGITS)
    config = TrainingConfig(epochs=10_000, batch_size=batch_size)
    recipe, computation = Recipe(denoiser, schedule_config, config), Computation(precision=precision)
    if distilled:
        recipe = distilled_recipe(
            Trainer(recipe, images).checkpoint(), training=config, sampling_steps=sampler.sampling_steps
        )
    network = untrained_network(recipe, images)
    steps = Trainer(recipe, images, computation, network).steps()

    def take_steps(classes: Tensor, count: int) -> Tensor:
        network.eval()
        predictor = AsNoisePredictor(InPrecision(network, precision), denoiser.prediction, schedule)
        noise = NoiseSource([(0, image) for image in range(len(classes))], (1, side, side))
        conditions = torch.eye(CLASSES)[classes]
        guided = (DistilledGuidance if distilled else ClassifierFreeGuidance)(predictor, WEIGHT)
        images = sample(guided, schedule, replace(sampler, sampling_steps=count), conditions, noise)
        network.train()
        return images

    return Contestant(name, count(network), lambda _images, _classes: next(steps), take_steps, sampler.sampling_steps)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one optimizer step on a loss, like every plain training loop."""
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # torch's own signature is untyped
    optimizer.step()


def coursework(denoiser: DenoiserConfig, side: int) -> Contestant:
    """Return the recipe of the coursework's scripts: float32, contiguous, 400 ancestral steps, separate predictions."""
    config = LinearScheduleConfig(timesteps=COURSEWORK_STEPS)
    network = build_denoiser(denoiser, (1, side, side), DIGITS.names, config, 0).to(
        memory_format=torch.contiguous_format
    )
    beta = torch.linspace(1e-4, 0.02, COURSEWORK_STEPS)
    alpha_bar = (1 - beta).cumprod(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)

    def train(images: Tensor, classes: Tensor) -> None:
        t = torch.randint(COURSEWORK_STEPS, (len(images),))
        noise = torch.randn_like(images)
        share = alpha_bar[t].view(-1, 1, 1, 1)
        conditions = torch.eye(CLASSES)[classes] * (torch.rand(len(images), 1) > 0.1)
        predicted = network(share.sqrt() * images + (1 - share).sqrt() * noise, t, conditions)
        descend(optimizer, nn.functional.mse_loss(predicted, noise))

    @torch.no_grad()
    def take_steps(classes: Tensor, count: int) -> Tensor:
        network.eval()
        conditions, x = torch.eye(CLASSES)[classes], torch.randn(len(classes), 1, side, side)
        for t in range(COURSEWORK_STEPS - 1, COURSEWORK_STEPS - 1 - count, -1):
            steps = torch.full((len(x),), t)
            conditional, unconditional = network(x, steps, conditions), network(x, steps, torch.zeros_like(conditions))
            noise = (1 + WEIGHT) * conditional - WEIGHT * unconditional
            mean = (x - beta[t] / (1 - alpha_bar[t]).sqrt() * noise) / (1 - beta[t]).sqrt()
            x = mean + (beta[t].sqrt() * torch.randn_like(x) if t else 0)
        network.train()
        return x

    return Contestant("coursework recipe, 400 ancestral steps", count(network), train, take_steps, COURSEWORK_STEPS)


def diffusers_unet(
    parameters: int, side: int, scheduler: DDPMScheduler | DDIMScheduler, sampling_steps: int
) -> Contestant:
    """Return diffusers' UNet2DModel with class embeddings and a scheduler, as in its training examples."""
    network = nearest_in_size(
        parameters,
        lambda width: UNet2DModel(
            sample_size=side, in_channels=1, out_channels=1, layers_per_block=2, num_class_embeds=CLASSES + 1,
            block_out_channels=(width, 2 * width), norm_num_groups=8,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        ),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)

    def train(images: Tensor, classes: Tensor) -> None:
        t = torch.randint(scheduler.config.num_train_timesteps, (len(images),))
        noise = torch.randn_like(images)
        labels = torch.where(torch.rand(len(images)) < 0.1, CLASSES, classes)
        predicted = network(scheduler.add_noise(images, noise, t), t, class_labels=labels).sample
        descend(optimizer, nn.functional.mse_loss(predicted, noise))

    @torch.no_grad()
    def take_steps(classes: Tensor, count: int) -> Tensor:
        network.eval()
        scheduler.set_timesteps(sampling_steps)
        x, labels = torch.randn(len(classes), 1, side, side), torch.cat((classes, torch.full_like(classes, CLASSES)))
        for t in scheduler.timesteps[:count]:
            conditional, unconditional = network(torch.cat((x, x)), t, class_labels=labels).sample.chunk(2)
            noise = (1 + WEIGHT) * conditional - WEIGHT * unconditional
            x = scheduler.step(noise, t, x).prev_sample
        network.train()
        return x

    name = f"diffusers, {type(scheduler).__name__.removesuffix('Scheduler')}, {sampling_steps} steps"
    return Contestant(name, count(network), train, take_steps, sampling_steps)


def denoising_diffusion(parameters: int, side: int) -> Contestant:
    """Return denoising_diffusion_pytorch's classifier-free guidance with 400 timesteps."""
    from denoising_diffusion_pytorch.classifier_free_guidance import GaussianDiffusion, Unet

    network = nearest_in_size(
        parameters, lambda width: Unet(dim=width, num_classes=CLASSES, cond_drop_prob=0.1, dim_mults=(1, 2), channels=1)
    )
    diffusion = GaussianDiffusion(network, image_size=side, timesteps=COURSEWORK_STEPS)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)

    def train(images: Tensor, classes: Tensor) -> None:
        descend(optimizer, diffusion((images + 1) / 2, classes=classes))

    def take_steps(classes: Tensor, count: int) -> Tensor:
        network.eval()
        x = torch.randn(len(classes), 1, side, side)
        for t in range(COURSEWORK_STEPS - 1, COURSEWORK_STEPS - 1 - count, -1):
            x, _ = diffusion.p_sample(x, t, classes, cond_scale=1 + WEIGHT)
        network.train()
        return x

    return Contestant("denoising_diffusion_pytorch, 400 steps", count(network), train, take_steps, COURSEWORK_STEPS)


def nearest_in_size(parameters: int, build: Callable[[int], Any]) -> Any:
    """Return the network with the number of parameters closest to this, over widths that are multiples of 8."""
    sizes = {width: count(build(width)) for width in range(8, 161, 8)}
    return build(min(sizes, key=lambda width: abs(sizes[width] - parameters)))
