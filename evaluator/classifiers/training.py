"""Training of an evaluator on its own split of the images.

    loss = binary cross-entropy of every class's logit against the multi-hot condition

The optimizer is AdamW with a one-cycle learning rate. Each epoch rotates, scales and shifts every training image a
little, with new random values.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from evaluator.configuration import EvaluatorConfig
from lab.data.labelled_images import LabelledImages, mirrored_at_random, to_float
from lab.errors import LabError
from lab.types import Images


def jittered(images: Images, config: EvaluatorConfig, generator: torch.Generator) -> Images:
    """Rotate, scale and shift each image independently, and mirror half of them if `config.mirror` is set.

    Args:
        images: (B, C, H, W) in [-1, 1].
        config: rotation_degrees, scaling and shift bound the changes, which are uniform in both directions;
            surroundings chooses the padding.
        generator: the random generator, on the CPU.
    """

    def uniform(largest: float, *shape: int) -> Tensor:
        return (2 * torch.rand(len(images), *shape, generator=generator) - 1) * largest

    angle = uniform(math.radians(config.rotation_degrees))
    scale = 1 + uniform(config.scaling)
    rotation = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos()), dim=1).view(-1, 2, 2)
    # affine_grid's coordinates run from -1 to 1 across the side, so a share of the side is twice as much.
    motion = torch.cat((rotation * scale.view(-1, 1, 1), uniform(2 * config.shift, 2, 1)), dim=2)
    grid = nn.functional.affine_grid(motion, list(images.shape), align_corners=False)
    padding = {"darkest": "zeros", "edge": "border"}[config.surroundings]
    # grid_sample pads with 0, so 1 is added to the images to make 0 the darkest value.
    moved = nn.functional.grid_sample(images + 1, grid, padding_mode=padding, align_corners=False) - 1
    return mirrored_at_random(moved, generator) if config.mirror else moved


def batch_sizes(images: int, batch_size: int) -> list[int]:
    """Return the batch sizes of an epoch; the last batch holds the remainder.

    A remainder of one image joins the previous batch: batch normalisation needs more than one value a channel.
    """
    whole, left = divmod(images, batch_size)
    sizes = [batch_size] * whole + [left] * (left > 0)
    return [*sizes[:-2], sizes[-2] + 1] if left == 1 and whole else sizes


def train_classifier(
    classifier: nn.Module, dataset: LabelledImages, config: EvaluatorConfig, seed: int
) -> Iterator[float]:
    """Train a classifier in place, on its own device, and yield each epoch's mean loss.

    The order and the jitter of epoch e depend on (seed, e). Dropout uses a forked global RNG with the same seed.

    Raises:
        LabError: the loss is not finite.
    """
    device = next(classifier.parameters()).device
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    sizes = batch_sizes(len(dataset), config.batch_size)
    total_steps = config.epochs * len(sizes)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=total_steps)
    for epoch in range(config.epochs):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        total = 0.0
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.default_generator.manual_seed(seed * 1_000_003 + epoch)
            if device.type == "cuda":
                torch.cuda.manual_seed(seed * 1_000_003 + epoch)
            classifier.train()
            for chosen in torch.split(torch.randperm(len(dataset), generator=generator), sizes):
                images = jittered(to_float(dataset.pixels[chosen]), config, generator)
                logits = classifier(images.to(device))
                loss = nn.functional.binary_cross_entropy_with_logits(logits, dataset.conditions[chosen].to(device))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]  # torch's own signature is untyped
                optimizer.step()
                schedule.step()
                total += loss.item() * len(chosen)
        if not math.isfinite(total):
            raise LabError(
                f"the evaluator's loss is {total} in epoch {epoch + 1}; lower --evaluator.learning-rate "
                f"(currently {config.learning_rate:g})"
            )
        yield total / len(dataset)
    classifier.eval()
