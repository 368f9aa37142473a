"""CADS against its equations, and against what its paper claims of variety at high weights."""

import math
import re

import numpy as np
import pytest
import torch

from lab.configuration.diffusion import DDIMConfig
from lab.configuration.networks import ContextUnetConfig, ImportedUNet2DConfig
from lab.diffusion.noise_source import NoiseSource, StepRandomness
from lab.diffusion.samplers import sample
from lab.errors import LabError
from lab.guidance.annealed import AnnealedMethod
from lab.guidance.evaluation_counter import EvaluationCounter
from lab.guidance.method import Unguided
from lab.guidance.methods import named_method
from lab.sweep.fit import require_conditions_of_any_numbers
from lab.types import Conditions, Images, NoisePredictor, Timesteps
from tests.test_effective_scale import GRID, MEANS, SCHEDULE, SHAPE, STEPS, TWO_LABELS, VARIANCE, VOCABULARY, at

SEEDS = [(0, i) for i in range(3)]


def gaussian(x_t: Images, timesteps: Timesteps, conditions: Conditions) -> Images:
    """The exact prediction for a Gaussian whose mean is linear in the condition, any numbers; 0 for the null one."""
    x_t = x_t.double()
    alpha, sigma = SCHEDULE.amounts(timesteps, x_t)
    mean = 4 * (conditions.double() @ MEANS.flatten(1)).view(-1, *SHAPE)
    return sigma * (x_t - alpha * mean) / (alpha**2 * VARIANCE + sigma**2)


def guided(
    method: AnnealedMethod, weight: float, network: NoisePredictor = gaussian, images: int = 3
) -> NoisePredictor:
    randomness = StepRandomness([(0, i) for i in range(images)])
    return method.guide(Unguided(network, network, SCHEDULE, GRID, VOCABULARY, randomness), weight)


@pytest.mark.parametrize("method", [AnnealedMethod(), AnnealedMethod(0.2, 1.0, 0.6, 0.3), AnnealedMethod(rescaled=0.0)])
@pytest.mark.parametrize("t", [99, 79, 65, 30])
@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_it_is_guidance_by_the_paper_s_noisy_condition(method: AnnealedMethod, t: int, weight: float) -> None:
    x_t, timesteps, _ = at(t)
    noise = StepRandomness(SEEDS).draw(t, lambda generator: torch.randn(3, generator=generator)).double().numpy()
    u, rows = t / 99, []
    gamma = np.clip((method.noisy - u) / (method.noisy - method.clean), 0, 1)
    for y, n in zip(TWO_LABELS.double().numpy(), noise, strict=True):
        y_hat = math.sqrt(gamma) * y + method.noise * math.sqrt(1 - gamma) * n
        y_rescaled = (y_hat - y_hat.mean()) / y_hat.std() * y.std() + y.mean()
        rows.append(method.rescaled * y_rescaled + (1 - method.rescaled) * y_hat)
    noisy = torch.from_numpy(np.stack(rows))
    conditional, unconditional = gaussian(x_t, timesteps, noisy), gaussian(x_t, timesteps, torch.zeros(3, 3))
    expected = unconditional + (1 + weight) * (conditional - unconditional)
    assert torch.equal(noisy, TWO_LABELS.double()) == (gamma == 1)
    torch.testing.assert_close(guided(method, weight)(x_t, timesteps, TWO_LABELS), expected, atol=1e-5, rtol=1e-5)


def images_of_one_class(method: AnnealedMethod, weight: float) -> Images:
    images = 300
    sampler, noise = DDIMConfig(sampling_steps=STEPS, clamp=False), NoiseSource([(0, i) for i in range(images)], SHAPE)
    conditions = torch.eye(3)[:1].expand(images, 3)
    return sample(guided(method, weight, images=images), SCHEDULE, sampler, conditions, noise)


@pytest.mark.parametrize("weight", [2.0, 5.0])
def test_images_of_one_class_vary_more_and_keep_their_class(weight: float) -> None:
    plain, annealed = (images_of_one_class(method, weight) for method in (AnnealedMethod(clean=1.0), AnnealedMethod()))
    variances = [float(images.var(dim=0).sum()) for images in (plain, annealed)]
    # The 16 variances of 300 images each have a relative standard error of sqrt(2 / 300 / 16).
    assert variances[1] > (1 + 5 * math.sqrt(2) * math.sqrt(2 / 300 / 16)) * variances[0]
    mean = (annealed.mean(dim=0) * MEANS[0]).sum() / (MEANS[0] ** 2).sum()
    assert float(mean) > 4  # the scale of the class's mean in `gaussian`


def test_an_image_without_a_class_stays_unconditional() -> None:
    x_t, timesteps, _ = at(99)
    counter = EvaluationCounter(gaussian)
    found = guided(AnnealedMethod(), 2.0, counter)(x_t, timesteps, torch.zeros(3, 3))
    torch.testing.assert_close(found, gaussian(x_t, timesteps, torch.zeros(3, 3)))
    assert counter.evaluations == 6


def test_networks_that_read_classes_alone_are_refused() -> None:
    methods = [named_method("plain"), named_method("annealed")]
    numbered = ImportedUNet2DConfig(unet2d={"num_class_embeds": 3, "block_out_channels": [32]})
    for denoiser in (ContextUnetConfig(attention="objects"), numbered):
        with pytest.raises(LabError, match=re.escape("--guidance.method annealed adds noise to the condition")):
            require_conditions_of_any_numbers(denoiser, methods)
        require_conditions_of_any_numbers(denoiser, methods[:1])
    require_conditions_of_any_numbers(ContextUnetConfig(attention="map"), methods)
