"""The steps of the tutorial, each an ordinary experiment with its own report in `reports/NAME-STEP/`.

Every training takes equally many optimizer steps of equally many images, so the steps differ in what they predict, what
the network is given, the noise schedule and the sampler. The learning rate is constant; the lab's own training alone
warms it up and lets it fall. All are sampled from EMA weights, which the sources do not have.
"""

from dataclasses import dataclass, replace
from typing import Any

from experiments.configuration import Experiment
from experiments.tutorial.configuration import Tutorial
from lab.configuration.diffusion import (
    CorruptionScheduleConfig,
    CosineScheduleConfig,
    DDIMConfig,
    DiffusersDDIMConfig,
    DiffusersDDPMConfig,
    DPMSolverConfig,
    LinearScheduleConfig,
)
from lab.configuration.networks import BasicUNetConfig, ContextUnetConfig, UNet2DConfig
from lab.configuration.training import TrainingConfig

LINEAR_300 = LinearScheduleConfig(timesteps=300)
"""The by-hand source's T and linear betas, which leave alpha_bar_T = 0.048 with the usual ends, 1e-4 and 0.02. The
source does not print them."""


@dataclass(frozen=True)
class TutorialStep:
    """One step.

    Args:
        description: its name in the table.
        experiment: its settings.
    """

    description: str
    experiment: Experiment


def tutorial_steps(tutorial: Tutorial, base: Experiment | None = None) -> dict[str, TutorialStep]:
    """Return the steps in order; two steps of one training differ in the sampler and the guidance weight alone.

    Args:
        tutorial: the number of epochs, the size of a batch and the width of the networks.
        base: what the steps have in common; by default the tutorial's own.
    """
    base = base or tutorial.base
    n_feat = tutorial.n_feat
    once = replace(base.sweep, guidance_weights=(0.0,), newest=1)
    constant = TrainingConfig(
        epochs=tutorial.epochs,
        batch_size=tutorial.batch_size,
        learning_rate=1e-3,
        weight_decay=0,
        warmup_steps=0,
        decay="none",
        max_gradient_norm=0,
        checkpoints=1,
    )
    basic = BasicUNetConfig(n_feat=n_feat, widths=(1, 2, 2), prediction="x_0")
    unet2d = UNet2DConfig(
        conditional=False,
        timed=False,
        n_feat=n_feat,
        widths=(1, 2, 2),
        attended_levels=2,
        zero_to_one=True,
        prediction="x_0",
    )
    corruption = {"schedule": CorruptionScheduleConfig(timesteps=1000), "training": constant}
    by_hand = {
        "denoiser": ContextUnetConfig(n_feat=n_feat),
        "training": replace(constant, context_dropout=0.0),
        "sampler": DDIMConfig(sampling_steps=300, eta=1.0, clamp=False),
    }
    # The same network as the corruption baseline's, now with the timestep and the label.
    diffusers = {
        "denoiser": UNet2DConfig(n_feat=n_feat, widths=(1, 2, 2), attended_levels=2),
        "schedule": CosineScheduleConfig(timesteps=1000),
        "training": replace(constant, learning_rate=4e-4, weight_decay=0.01),
    }

    def step(description: str, **changes: Any) -> TutorialStep:
        return TutorialStep(description, replace(base, **({"sweep": once} | changes)))

    def mixing(steps: int) -> DDIMConfig:
        return DDIMConfig(sampling_steps=steps, clamp=False)

    def of(name: str) -> str:
        return f"{base.name}-{name}"

    return {
        "corruption-basic-5": step("corruption, BasicUNet, 5 steps", denoiser=basic, sampler=mixing(5), **corruption),
        "corruption-basic-40": step(
            "the same, 40 steps",
            denoiser=basic,
            sampler=mixing(40),
            checkpoints_of=of("corruption-basic-5"),
            **corruption,
        ),
        "corruption-unet2d-5": step(
            "corruption, UNet2DModel, 5 steps", denoiser=unet2d, sampler=mixing(5), **corruption
        ),
        "corruption-unet2d-40": step(
            "the same, 40 steps",
            denoiser=unet2d,
            sampler=mixing(40),
            checkpoints_of=of("corruption-unet2d-5"),
            **corruption,
        ),
        "ddpm-by-hand": step("DDPM by hand, T = 300", schedule=LINEAR_300, **by_hand),
        "ddpm-by-hand-scaled": step(
            "the same, betas times 1000 / T",
            schedule=replace(
                LINEAR_300,
                beta_start=LINEAR_300.beta_start * 1000 / LINEAR_300.timesteps,
                beta_end=LINEAR_300.beta_end * 1000 / LINEAR_300.timesteps,
            ),
            **by_hand,
        ),
        "diffusers-ddpm": step(
            "DDPM with diffusers, without labels",
            sampler=DiffusersDDPMConfig(sampling_steps=100),
            sweep=replace(once, guidance_weights=(-1.0,)),
            **diffusers,
        ),
        "diffusers-ddim": step(
            "DDIM with diffusers",
            sampler=DiffusersDDIMConfig(sampling_steps=50),
            sweep=replace(once, guidance_weights=(0.0, 2.0)),
            checkpoints_of=of("diffusers-ddpm"),
            **diffusers,
        ),
        "this-lab": step(
            "this lab",
            denoiser=ContextUnetConfig(n_feat=n_feat, conditioning="blocks", bottleneck="map", prediction="v"),
            training=TrainingConfig(
                epochs=tutorial.epochs, batch_size=tutorial.batch_size, learning_rate=1e-3, checkpoints=1
            ),
            sampler=DPMSolverConfig(sampling_steps=10),
            sweep=replace(once, guidance_weights=(0.0, 2.0)),
        ),
    }
