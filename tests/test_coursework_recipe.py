"""The coursework's training and sampling against their own formulas, written a second time here."""

import math
from itertools import accumulate
from operator import mul

import pytest
import torch

from lab.configuration.diffusion import (
    AncestralConfig,
    CyclicCosineScheduleConfig,
    DDIMConfig,
    DPMSolverConfig,
    LinearScheduleConfig,
    SamplerConfig,
    ScheduleConfig,
)
from lab.configuration.networks import ContextUnetConfig
from lab.configuration.training import TrainingConfig
from lab.data.labelled_images import LabelledImages, to_float
from lab.data.labels import ClassVocabulary
from lab.diffusion.noise_source import NoiseSource
from lab.diffusion.samplers import sample
from lab.diffusion.schedules import noise_schedule
from lab.errors import LabError
from lab.networks.registry import build_denoiser
from lab.training.recipe import Recipe
from lab.training.trainer import EPOCH_STREAM, STEP_STREAM, Trainer, generator_for, learning_rate_factor
from lab.types import Conditions, Images, Timesteps
from tests.classes import some_classes

T, START, END = 400, 1e-4, 0.02
LINEAR = [START + (END - START) * t / T for t in range(T + 1)]
CYCLIC = [(END - START) / 2 * math.cos(2 * math.pi * t / 50) + (END + START) / 2 for t in range(T + 1)]
SCHEDULES: dict[str, tuple[ScheduleConfig, list[float]]] = {
    "linear": (LinearScheduleConfig(timesteps=T, extra_beta=True), LINEAR),
    "cyclic": (CyclicCosineScheduleConfig(timesteps=T, extra_beta=True), CYCLIC),
}


class Listed(NoiseSource):
    """Noise from a list, in double precision."""

    def __init__(self, noise: list[Images]) -> None:
        self.left = list(noise)

    def draw(self) -> Images:
        return self.left.pop(0)


def wavy(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
    """Predict noise in some way that depends on x and t; t of the source is one more."""
    return torch.sin(x_t) * ((timesteps + 1) / T).view(-1, 1, 1, 1)


@pytest.mark.parametrize("name", SCHEDULES)
def test_ancestral_sampling_is_the_coursework_s_loop(name: str) -> None:
    config, betas = SCHEDULES[name]
    alpha_bar = list(accumulate((1 - beta for beta in betas), mul))
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randn(2, 1, 3, 3, dtype=torch.float64, generator=generator) for _ in range(T)]
    x, left = noise[0], noise[1:]
    for t in range(T, 0, -1):
        eps = wavy(x, torch.tensor([t - 1, t - 1]), torch.zeros(2, 1))
        mean = (x - eps * betas[t] / math.sqrt(1 - alpha_bar[t])) / math.sqrt(1 - betas[t])
        x = mean + math.sqrt(betas[t]) * left.pop(0) if t > 1 else mean
    assert not left
    ours = sample(
        wavy, noise_schedule(config), AncestralConfig(sampling_steps=T, clamp=False), torch.zeros(2, 1), Listed(noise)
    )
    torch.testing.assert_close(ours, x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "grey_levels"), [("linear", 0.8), ("cyclic", 12.7)])
def test_what_the_last_step_leaves_of_the_noise(name: str, grey_levels: float) -> None:
    config, betas = SCHEDULES[name]
    # From x_1 = alpha x_0 + sigma noise with the noise known exactly, the last step leaves (beta_0 / sigma_1)
    # sqrt(1 - beta_1) of it; an image runs over 2 where pixels run over 255.
    sigma_1 = math.sqrt(1 - (1 - betas[0]) * (1 - betas[1]))
    left = betas[0] / sigma_1 * math.sqrt(1 - betas[1])
    assert 127.5 * left == pytest.approx(grey_levels, abs=0.05)
    schedule = noise_schedule(config)
    for sampler in (AncestralConfig(sampling_steps=1, clamp=False), DDIMConfig(sampling_steps=1, eta=1.0, clamp=False)):
        # One step alone, from a schedule of t = 1 and the end.
        short = type(schedule)(schedule.alpha[:1], schedule.sigma[:1], end=schedule.end)
        noise = torch.ones(1, 1, 1, 1, dtype=torch.float64)
        x_1 = schedule.sigma[0] * noise  # of a black image, x_0 = 0
        end = sample(lambda x, t, c, e=noise: e, short, sampler, torch.zeros(1, 1), Listed([x_1, noise]))
        assert float(end) == pytest.approx(left, rel=1e-6)


@pytest.mark.parametrize("sampler", [DDIMConfig(sampling_steps=20, clamp=False), DPMSolverConfig(sampling_steps=20)])
def test_deterministic_samplers_end_where_the_coursework_ends(sampler: SamplerConfig) -> None:
    schedule = noise_schedule(SCHEDULES["cyclic"][0])
    x_0, noise = torch.full((1, 1, 2, 2), 0.25, dtype=torch.float64), torch.ones(1, 1, 2, 2, dtype=torch.float64)
    start = schedule.alpha[-1] * x_0 + schedule.sigma[-1] * noise

    def exact(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
        alpha, sigma = schedule.alpha[timesteps].view(-1, 1, 1, 1), schedule.sigma[timesteps].view(-1, 1, 1, 1)
        return (x_t - alpha * x_0) / sigma

    end = sample(exact, schedule, sampler, torch.zeros(1, 1), Listed([start]))
    torch.testing.assert_close(end, math.sqrt(1 - END) * x_0 + math.sqrt(END) * noise, rtol=1e-9, atol=1e-9)


def test_the_learning_rate_falls_once_an_epoch() -> None:
    config = TrainingConfig(epochs=4, decay="linear_epochs", warmup_steps=0)
    assert [learning_rate_factor(config, step, 12) for step in range(12)] == [1] * 3 + [0.75] * 3 + [0.5] * 3 + [
        0.25
    ] * 3


def test_training_is_the_coursework_s_loop() -> None:
    vocabulary = ClassVocabulary(("a", "b"))
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(256, (10, 1, 8, 8), generator=generator, dtype=torch.uint8)
    conditions = torch.eye(2)[torch.arange(10) % 2]
    dataset = LabelledImages(pixels, conditions, vocabulary, torch.arange(10))
    # Of two channels a group: a bias before the normalisation of one channel has no gradient but rounding, which Adam
    # would make a step of.
    denoiser = ContextUnetConfig(n_feat=16, null_condition="zeros", time="scalar")
    schedule = LinearScheduleConfig(timesteps=T, extra_beta=True)
    training = TrainingConfig(
        epochs=3, batch_size=4, learning_rate=1e-3, weight_decay=0, warmup_steps=0, decay="linear_epochs",
        max_gradient_norm=0, context_dropout=0, ema_decay=0, drop_last=True,
    )  # fmt: skip
    trainer = Trainer(Recipe(denoiser, schedule, training, seed=5), dataset)
    losses = [step.loss for step in trainer.steps()]
    assert trainer.log.losses == losses

    network = build_denoiser(denoiser, (1, 8, 8), some_classes(2), schedule, seed=5)
    adam, theirs, step = torch.optim.Adam(network.parameters(), lr=1e-3), [], 0
    alpha_bar = torch.cumprod(1 - torch.tensor(LINEAR, dtype=torch.float64), dim=0)
    for epoch in range(3):
        adam.param_groups[0]["lr"] = 1e-3 * (1 - epoch / 3)
        order = torch.randperm(10, generator=generator_for(5, EPOCH_STREAM, epoch))
        for batch in range(2):  # the last two images are left out
            chosen = order[4 * batch : 4 * batch + 4]
            draws = generator_for(5, STEP_STREAM, step)
            noise = torch.randn(4, 1, 8, 8, generator=draws)
            t = 1 + torch.randint(T, (4,), generator=draws)
            share = alpha_bar[t].view(-1, 1, 1, 1)
            x_t = share.sqrt().float() * to_float(pixels[chosen]) + (1 - share).sqrt().float() * noise
            loss = torch.nn.functional.mse_loss(network(x_t, t - 1, conditions[chosen]), noise)
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own signature is untyped
            adam.step()
            theirs.append(loss.item())
            step += 1
    assert losses == pytest.approx(theirs, rel=1e-5)
    ours = trainer.checkpoint().weights  # without an EMA, the weights themselves
    for name, weight in network.state_dict().items():
        torch.testing.assert_close(ours[name], weight, rtol=1e-4, atol=1e-5)


def test_leaving_out_the_last_batch_needs_one_whole_batch() -> None:
    dataset = LabelledImages(
        torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.ones(3, 1), ClassVocabulary(("a",)), torch.arange(3)
    )
    recipe = Recipe(ContextUnetConfig(n_feat=8), LinearScheduleConfig(), TrainingConfig(batch_size=4, drop_last=True))
    with pytest.raises(LabError, match="leaves no batch of 4: the generator has 3 images"):
        _ = Trainer(recipe, dataset).steps_per_epoch
