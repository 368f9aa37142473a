"""Training of an evaluator on its own split.

    loss = binary cross-entropy of every class's logit against the multi-hot condition

AdamW under a one-cycle learning rate; every training image is turned, scaled and shifted a little, anew each time.
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
    """Turn, scale and shift each image on its own, and mirror half of them where the configuration says so.

    Args:
        images: (B, C, H, W) in [-1, 1].
        config: rotation_degrees, scaling and shift are the largest changes, drawn uniformly either way;
            surroundings and mirror as they say.
        generator: of the draws, on the CPU.
    """

    def uniform(largest: float, *shape: int) -> Tensor:
        return (2 * torch.rand(len(images), *shape, generator=generator) - 1) * largest

    angle = uniform(math.radians(config.rotation_degrees))
    scale = 1 + uniform(config.scaling)
    rotation = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos()), dim=1).view(-1, 2, 2)
    # affine_grid's coordinates run from -1 to 1 over the side, so a share of the side is twice that.
    motion = torch.cat((rotation * scale.view(-1, 1, 1), uniform(2 * config.shift, 2, 1)), dim=2)
    grid = nn.functional.affine_grid(motion, list(images.shape), align_corners=False)
    padding = {"darkest": "zeros", "edge": "border"}[config.surroundings]
    # grid_sample fills with 0, so the images are moved up by 1 to make 0 the darkest.
    moved = nn.functional.grid_sample(images + 1, grid, padding_mode=padding, align_corners=False) - 1
    return mirrored_at_random(moved, generator) if config.mirror else moved


def batch_sizes(images: int, batch_size: int) -> list[int]:
    """Return the sizes of the batches of an epoch, the last of which is what is left.

    One image left is put to the batch before it: normalised over a batch of one, a map of one pixel is nothing.
    """
    whole, left = divmod(images, batch_size)
    sizes = [batch_size] * whole + [left] * (left > 0)
    return [*sizes[:-2], sizes[-2] + 1] if left == 1 and whole else sizes


def train_classifier(
    classifier: nn.Module, dataset: LabelledImages, config: EvaluatorConfig, seed: int
) -> Iterator[float]:
    """Train a classifier in place, on the device it is on, yielding each epoch's mean loss.

    The order and the jitter of epoch e come from (seed, e); dropout reads a forked global RNG seeded in the same way.
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
                f"(now {config.learning_rate:g})"
            )
        yield total / len(dataset)
    classifier.eval()
